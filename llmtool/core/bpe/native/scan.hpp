// Pre-tokenizers: hand-written scanners that cut UTF-8 text exactly where the published patterns cut it.
//
// Every scanner is a type with `static const uint8_t* next(p, text)`: the end of the piece that starts at p,
// where p < text.end. A byte that belongs to no well-formed sequence is one code point of class kOther.
// All of them are linear: no byte is looked at more often than a small constant, whatever the text.
#pragma once
#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "bytes.hpp"
#include "unicode_tables.hpp"
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace llmtool {

// The order is that of generate_unicode.py.
enum CharClass : uint8_t {
  kUpper, kLower, kCaseless, kMark, kNumber, kSpace, kNewline, kPunctuation, kSymbol,
  kLaterNumber,  // unassigned for patterns, a number for the step Digits, whose Unicode is newer
  kOther
};

// Sets of classes, as bits.
inline constexpr unsigned bit(CharClass c) { return 1u << c; }
inline constexpr unsigned kLetters = bit(kUpper) | bit(kLower) | bit(kCaseless);
inline constexpr unsigned kWhite = bit(kSpace) | bit(kNewline);
inline constexpr unsigned kNeither = bit(kPunctuation) | bit(kSymbol) | bit(kLaterNumber) | bit(kOther);  // [^\s\p{L}\p{M}\p{N}]
inline constexpr unsigned kOthers = kNeither | bit(kMark);                            // [^\s\p{L}\p{N}]
LLMTOOL_INLINE bool in(CharClass c, unsigned set) { return set >> c & 1; }

// One document's end, the end of the buffer that it lies in (up to there 16 bytes are loaded at once), its begin.
struct Text {
  const uint8_t* end;
  const uint8_t* readable_end;
  const uint8_t* begin;
};

struct CodePoint {
  CharClass cls;
  uint32_t length;
};

inline constexpr CodePoint kInvalidByte{kOther, 1};

LLMTOOL_INLINE CharClass class_of(uint32_t code_point) {
  return static_cast<CharClass>(kClassOf[kBlockOf[code_point >> 6] << 6 | (code_point & 63)]);
}

LLMTOOL_INLINE CodePoint multibyte(const uint8_t* p, const uint8_t* end) {
  // What is missing at the end reads as zero, which continues no sequence.
  const uint32_t x = LLMTOOL_LIKELY(end - p >= 4) ? load32(p) : static_cast<uint32_t>(load_partial(p, end - p));
  if ((x & 0xC0E0) == 0x80C0) {
    const uint32_t code_point = (x & 0x1F) << 6 | (x >> 8 & 0x3F);
    if (LLMTOOL_LIKELY(code_point >= 0x80)) return {class_of(code_point), 2};
  } else if ((x & 0xC0C0F0) == 0x8080E0) {
    const uint32_t code_point = (x & 0xF) << 12 | (x >> 2 & 0xFC0) | (x >> 16 & 0x3F);
    if (LLMTOOL_LIKELY(code_point >= 0x800 && code_point - 0xD800 >= 0x800)) return {class_of(code_point), 3};
  } else if ((x & 0xC0C0C0F8) == 0x808080F0) {
    const uint32_t code_point = (x & 7) << 18 | (x << 4 & 0x3F000) | (x >> 10 & 0xFC0) | (x >> 24 & 0x3F);
    if (LLMTOOL_LIKELY(code_point - 0x10000 < 0x100000)) return {class_of(code_point), 4};
  }
  return kInvalidByte;
}

LLMTOOL_INLINE CodePoint code_point(const uint8_t* p, const uint8_t* end) {
  if (LLMTOOL_LIKELY(*p < 0x80)) return {static_cast<CharClass>(kClassOf[kBlockOf[*p >> 6] << 6 | (*p & 63)]), 1};
  return multibyte(p, end);
}

// The first byte at or after p that is no ASCII letter (kAnyCase) or no lower-case one.
template <bool kAnyCase>
LLMTOOL_INLINE const uint8_t* skip_ascii_letters(const uint8_t* p, const Text& text) {
#if defined(__SSE2__)
  while (LLMTOOL_LIKELY(text.readable_end - p >= 16)) {
    __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    if (kAnyCase) v = _mm_or_si128(v, _mm_set1_epi8(0x20));
    // 'a' becomes the smallest signed byte, so one signed comparison finds the range.
    const __m128i shifted = _mm_add_epi8(v, _mm_set1_epi8(static_cast<char>(0x80 - 'a')));
    const __m128i letters = _mm_cmplt_epi8(shifted, _mm_set1_epi8(static_cast<char>(0x80 + 26)));
    const unsigned others = 0xFFFF & ~static_cast<unsigned>(_mm_movemask_epi8(letters));
    if (LLMTOOL_LIKELY(others)) return std::min(p + __builtin_ctz(others), text.end);
    p += 16;
    if (LLMTOOL_UNLIKELY(p >= text.end)) return text.end;
  }
#endif
  while (p < text.end && static_cast<uint8_t>((kAnyCase ? *p | 0x20 : *p) - 'a') < 26) ++p;
  return p;
}

LLMTOOL_INLINE const uint8_t* skip(const uint8_t* p, const uint8_t* end, unsigned set) {
  while (p < end) {
    const CodePoint c = code_point(p, end);
    if (!in(c.cls, set)) break;
    p += c.length;
  }
  return p;
}

// \p{L}* from p.
LLMTOOL_INLINE const uint8_t* skip_letters(const uint8_t* p, const Text& text) {
  for (;;) {
    p = skip_ascii_letters<true>(p, text);
    if (LLMTOOL_UNLIKELY(p >= text.end) || LLMTOOL_LIKELY(*p < 0x80)) return p;
    do {
      const CodePoint c = multibyte(p, text.end);
      if (!in(c.cls, kLetters)) return p;
      p += c.length;
    } while (p < text.end && *p >= 0x80);
  }
}

// The length of s, t, re, ve, m, ll or d at p, after an apostrophe; 0 if there is none of them.
// kFoldCase: as under (?i:...), where s is also U+017F, the long s.
template <bool kFoldCase>
LLMTOOL_INLINE unsigned contraction(const uint8_t* p, const uint8_t* end) {
  if (p >= end) return 0;
  const auto fold = [](uint8_t b) { return kFoldCase ? b | 0x20 : b; };
  const int x = fold(p[0]);
  if (x == 's' || x == 't' || x == 'm' || x == 'd') return 1;
  if (end - p < 2) return 0;
  const int y = fold(p[1]);
  if ((x == 'r' && y == 'e') || (x == 'v' && y == 'e') || (x == 'l' && y == 'l')) return 2;
  return kFoldCase && p[0] == 0xC5 && p[1] == 0xBF ? 2 : 0;
}

// \s+(?!\S)|\s+ at p, which is white; kNewlines: \s*[\r\n]+ goes before both. kStops: the text ends at such a class.
template <bool kNewlines, unsigned kStops = 0>
LLMTOOL_INLINE const uint8_t* white_piece(const uint8_t* p, const uint8_t* end) {
  const uint8_t *q = p, *last = p, *after_newline = nullptr;
  while (q < end) {
    const CodePoint c = code_point(q, end);
    if (!in(c.cls, kWhite)) {
      if (in(c.cls, kStops)) return kNewlines && after_newline ? after_newline : q;
      break;
    }
    last = q;
    q += c.length;
    if (c.cls == kNewline) after_newline = q;
  }
  if (kNewlines && after_newline) return after_newline;
  return q < end && last > p ? last : q;
}

// The whole document is one piece.
struct WholeDocument {
  static const uint8_t* next(const uint8_t*, const Text& text) { return text.end; }
};

// '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// kDigits: each number is a piece of its own, cut before, so that the pattern sees the text end at it.
template <bool kDigits>
struct Gpt2Like {
  static constexpr unsigned kNumbers = bit(kNumber) | (kDigits ? bit(kLaterNumber) : 0), kSigns = kOthers & ~kNumbers;

  LLMTOOL_INLINE static const uint8_t* next(const uint8_t* p, const Text& text) {
    CodePoint c = code_point(p, text.end);
    const uint8_t* q = p + c.length;
    if (*p == '\'') {
      if (const unsigned n = contraction<false>(q, text.end)) return q + n;
    }
    if (*p == ' ' && q < text.end) {
      const CodePoint second = code_point(q, text.end);
      if (!in(second.cls, kWhite) && !(kDigits && in(second.cls, kNumbers))) c = second, q += second.length;
    }
    if (in(c.cls, kLetters)) return skip_letters(q, text);
    if (in(c.cls, kNumbers)) return kDigits ? q : skip(q, text.end, kNumbers);
    if (in(c.cls, kSigns)) return skip(q, text.end, kSigns);
    return white_piece<false, kDigits ? kNumbers : 0>(p, text.end);
  }
};

using Gpt2 = Gpt2Like<false>;

// \p{N}{1,kDigits} from p, of which `q` is the end of the first.
template <unsigned kDigits>
LLMTOOL_INLINE const uint8_t* digits(const uint8_t* q, const uint8_t* end) {
  for (unsigned i = 1; i < kDigits && q < end; ++i) {
    const CodePoint c = code_point(q, end);
    if (c.cls != kNumber) break;
    q += c.length;
  }
  return q;
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,kDigits}| ?[^\s\p{L}\p{N}]+[\r\n]*
// |\s*[\r\n]+|\s+(?!\S)|\s+
template <unsigned kDigits>
struct Cl100kLike {
  LLMTOOL_INLINE static const uint8_t* next(const uint8_t* p, const Text& text) {
    const CodePoint first = code_point(p, text.end);
    const uint8_t* q = p + first.length;
    if (in(first.cls, kLetters)) return skip_letters(q, text);
    if (first.cls == kNumber) return digits<kDigits>(q, text.end);
    if (first.cls != kNewline && q < text.end) {
      if (*p == '\'') {
        if (const unsigned n = contraction<true>(q, text.end)) return q + n;
      }
      const CodePoint second = code_point(q, text.end);
      if (in(second.cls, kLetters)) return skip_letters(q + second.length, text);
      if (*p == ' ' && in(second.cls, kOthers)) return others(q + second.length, text.end);
    }
    if (in(first.cls, kOthers)) return others(q, text.end);
    return white_piece<true>(p, text.end);
  }

  LLMTOOL_INLINE static const uint8_t* others(const uint8_t* q, const uint8_t* end) {
    q = skip(q, end, kOthers);
    while (q < end && (*q == '\n' || *q == '\r')) ++q;
    return q;
  }
};

using Cl100k = Cl100kLike<3>;
using Qwen2 = Cl100kLike<1>;

// [\p{L}\p{M}]* from p.
LLMTOOL_INLINE const uint8_t* skip_letters_and_marks(const uint8_t* p, const Text& text) {
  for (;;) {
    p = skip_letters(p, text);
    if (LLMTOOL_LIKELY(p >= text.end || *p < 0x80)) return p;  // no ASCII character is a mark
    const CodePoint c = multibyte(p, text.end);
    if (c.cls != kMark) return p;
    p += c.length;
  }
}

// Qwen2 with \p{M} beside \p{L}, but in [^\r\n\p{L}\p{N}]?, which takes a mark as well.
struct Qwen35 {
  LLMTOOL_INLINE static const uint8_t* next(const uint8_t* p, const Text& text) {
    const CodePoint first = code_point(p, text.end);
    const uint8_t* q = p + first.length;
    if (in(first.cls, kLetters | bit(kMark))) return skip_letters_and_marks(q, text);
    if (first.cls == kNumber) return q;
    if (first.cls != kNewline && q < text.end) {
      if (*p == '\'') {
        if (const unsigned n = contraction<true>(q, text.end)) return q + n;
      }
      const CodePoint second = code_point(q, text.end);
      if (in(second.cls, kLetters | bit(kMark))) return skip_letters_and_marks(q + second.length, text);
      if (*p == ' ' && in(second.cls, kNeither)) return others(q + second.length, text.end);
    }
    if (in(first.cls, kNeither)) return others(q, text.end);
    return white_piece<true>(p, text.end);
  }

  LLMTOOL_INLINE static const uint8_t* others(const uint8_t* q, const uint8_t* end) {
    q = skip(q, end, kNeither);
    while (q < end && (*q == '\n' || *q == '\r')) ++q;
    return q;
  }
};

// U+4E00..U+9FA5, U+3040..U+30FF, in UTF-8.
LLMTOOL_INLINE bool is_cjk(const uint8_t* p, uint32_t length) {
  if (length != 3) return false;
  const uint32_t code = (p[0] & 0xFu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
  return (code >= 0x4E00 && code <= 0x9FA5) || (code >= 0x3040 && code <= 0x30FF);
}

// DeepSeek V3's three steps in one: \p{N}{1,3}, then [一-龥぀-ゟ゠-ヿ]+, then, where the text ends at both of them,
// [ASCII punctuation][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
// That pattern does not match everything: what it leaves lies in pieces between its matches.
struct DeepSeek3 {
  static constexpr unsigned kWords = kLetters | bit(kMark), kSigns = bit(kPunctuation) | bit(kSymbol);

  // A code point; one that the steps before cut off is a number.
  LLMTOOL_INLINE static CodePoint at(const uint8_t* p, const uint8_t* end) {
    CodePoint c = code_point(p, end);
    if (LLMTOOL_UNLIKELY(c.length == 3) && is_cjk(p, 3) && c.cls != kNumber) c.cls = kNumber;
    return c;
  }

  LLMTOOL_INLINE static const uint8_t* next(const uint8_t* p, const Text& text) {
    const CodePoint first = code_point(p, text.end);
    const uint8_t* q = p + first.length;
    if (first.cls == kNumber) return digits<3>(q, text.end);
    if (is_cjk(p, first.length)) {
      while (q < text.end) {
        const CodePoint c = code_point(q, text.end);
        if (c.cls == kNumber || !is_cjk(q, c.length)) break;
        q += c.length;
      }
      return q;
    }
    if (const uint8_t* end = match(p, first, text)) return end;
    while (q < text.end) {  // nothing matches: up to where something does
      const CodePoint c = at(q, text.end);
      if (c.cls == kNumber || match(q, c, text)) break;
      q += c.length;
    }
    return q;
  }

  // The end of the pattern's match at p, where `first` stands, or null.
  LLMTOOL_INLINE static const uint8_t* match(const uint8_t* p, const CodePoint& first, const Text& text) {
    const uint8_t* q = p + first.length;
    if (in(first.cls, kWords)) return words(q, text);
    const bool more = q < text.end;
    if (in(first.cls, kSigns)) {
      if (more && *p < 0x80 && is_ascii_letter(*q)) return skip_ascii_letters<true>(q, text);
      return signs(q, text.end);
    }
    if (more && first.cls != kNewline) {
      const CodePoint second = at(q, text.end);
      if (in(second.cls, kWords)) return words(q + second.length, text);
      if (*p == ' ' && in(second.cls, kSigns)) return signs(q + second.length, text.end);
    }
    if (in(first.cls, kWhite)) return white(p, text.end);
    return nullptr;
  }

  LLMTOOL_INLINE static bool is_ascii_letter(uint8_t byte) { return static_cast<uint8_t>((byte | 0x20) - 'a') < 26; }

  LLMTOOL_INLINE static const uint8_t* words(const uint8_t* q, const Text& text) {
    while (q < text.end) {
      q = skip_ascii_letters<true>(q, text);
      if (q >= text.end || *q < 0x80) break;
      const CodePoint c = at(q, text.end);
      if (!in(c.cls, kWords)) break;
      q += c.length;
    }
    return q;
  }

  LLMTOOL_INLINE static const uint8_t* signs(const uint8_t* q, const uint8_t* end) {
    while (q < end) {
      const CodePoint c = at(q, end);
      if (!in(c.cls, kSigns)) break;
      q += c.length;
    }
    while (q < end && (*q == '\n' || *q == '\r')) ++q;
    return q;
  }

  LLMTOOL_INLINE static const uint8_t* white(const uint8_t* p, const uint8_t* end) {
    const uint8_t *q = p, *last = p, *after_newline = nullptr;
    while (q < end) {
      const CodePoint c = at(q, end);
      if (!in(c.cls, kWhite)) {
        if (c.cls == kNumber) last = p;  // the text ends here
        break;
      }
      last = q;
      q += c.length;
      if (c.cls == kNewline) after_newline = q;
    }
    if (after_newline) return after_newline;
    return q < end && last > p ? last : q;
  }
};

// Before each U+2581 that follows another character: where SentencePiece's merges never reach over.
struct Metaspace {
  LLMTOOL_INLINE static const uint8_t* next(const uint8_t* p, const Text& text) {
    while (is_mark(p, text.end)) p += 3;
    for (;;) {
      p = static_cast<const uint8_t*>(std::memchr(p, 0xE2, static_cast<size_t>(text.end - p)));
      if (!p) return text.end;
      if (is_mark(p, text.end)) return p;
      ++p;
    }
  }

  LLMTOOL_INLINE static bool is_mark(const uint8_t* p, const uint8_t* end) {
    return end - p >= 3 && p[0] == 0xE2 && p[1] == 0x96 && p[2] == 0x81;
  }
};

// P?U*W+C? | P?U+W*C? | \p{N}{1,3} | ?[^\s\p{L}\p{N}]+[\r\n/]* | \s*[\r\n]+ | \s+(?!\S) | \s+, where
// P = [^\r\n\p{L}\p{N}], U = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], W = [\p{Ll}\p{Lm}\p{Lo}\p{M}] and C a contraction,
// if kContractions.
template <bool kContractions, unsigned kDigits>
struct O200kLike {
  static constexpr unsigned kW = bit(kLower) | bit(kCaseless) | bit(kMark);

  LLMTOOL_INLINE static const uint8_t* next(const uint8_t* p, const Text& text) {
    const CodePoint first = code_point(p, text.end);
    const uint8_t* q = p + first.length;
    if (first.cls == kNumber) return digits<kDigits>(q, text.end);
    if (in(first.cls, kLetters | bit(kMark))) {
      // A mark may be P as well, but taking it as U finds the same end, or an end where P finds none.
      return word(p, text);
    }
    if (first.cls != kNewline && q < text.end) {
      if (const uint8_t* end = word(q, text)) return end;
      if (*p == ' ') {
        const CodePoint second = code_point(q, text.end);
        if (in(second.cls, kNeither)) return others(q + second.length, text.end);
      }
    }
    if (in(first.cls, kNeither)) return others(q, text.end);
    return white_piece<true>(p, text.end);
  }

  // U*W+C?|U+W*C? at q, or null. The pattern gives back what U* took until W+ finds something: at a lower-case
  // letter nothing is given back; else the piece ends after the last code point of both U and W; else U+ takes all.
  LLMTOOL_INLINE static const uint8_t* word(const uint8_t* q, const Text& text) {
    const uint8_t *u = q, *last_of_both = nullptr;
    while (u < text.end) {
      const CodePoint c = code_point(u, text.end);
      if (c.cls == kLower) return with_contraction(skip_w(u + c.length, text), text.end);
      if (c.cls != kUpper && !in(c.cls, kW)) break;
      u += c.length;
      if (c.cls != kUpper) last_of_both = u;
    }
    if (last_of_both) return with_contraction(last_of_both, text.end);
    return u > q ? with_contraction(u, text.end) : nullptr;
  }

  LLMTOOL_INLINE static const uint8_t* skip_w(const uint8_t* p, const Text& text) {
    for (;;) {
      p = skip_ascii_letters<false>(p, text);
      if (LLMTOOL_UNLIKELY(p >= text.end) || LLMTOOL_LIKELY(*p < 0x80)) return p;
      const CodePoint c = multibyte(p, text.end);
      if (!in(c.cls, kW)) return p;
      p += c.length;
    }
  }

  LLMTOOL_INLINE static const uint8_t* with_contraction(const uint8_t* p, const uint8_t* end) {
    if (!kContractions || p >= end || LLMTOOL_LIKELY(*p != '\'')) return p;
    const unsigned n = contraction<true>(p + 1, end);
    return n ? p + 1 + n : p;
  }

  LLMTOOL_INLINE static const uint8_t* others(const uint8_t* q, const uint8_t* end) {
    q = skip(q, end, kOthers);
    while (q < end && (*q == '\n' || *q == '\r' || *q == '/')) ++q;
    return q;
  }
};

using O200k = O200kLike<true, 3>;
using Tekken = O200kLike<false, 1>;

}  // namespace llmtool
