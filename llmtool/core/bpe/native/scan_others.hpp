// Scanners of pre-tokenizers that need more than the classes of scan.hpp: BLOOM, Kimi, Falcon.
#pragma once
#include <cstring>

#include "scan.hpp"

namespace llmtool {

struct Range {
  uint32_t first, last;
};

// \p{Han} of Unicode 16.
inline constexpr Range kHan[] = {
    {0x2E80, 0x2E99},   {0x2E9B, 0x2EF3},   {0x2F00, 0x2FD5},   {0x3005, 0x3005},   {0x3007, 0x3007},
    {0x3021, 0x3029},   {0x3038, 0x303B},   {0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFA6D},
    {0xFA70, 0xFAD9},   {0x16FE2, 0x16FE3}, {0x16FF0, 0x16FF1}, {0x20000, 0x2A6DF}, {0x2A700, 0x2B739},
    {0x2B740, 0x2B81D}, {0x2B820, 0x2CEA1}, {0x2CEB0, 0x2EBE0}, {0x2EBF0, 0x2EE5D}, {0x2F800, 0x2FA1D},
    {0x30000, 0x3134A}, {0x31350, 0x323AF}};

// Punctuation of Unicode 16 that the older tables of the step Punctuation do not hold.
inline constexpr Range kLaterPunctuation[] = {
    {0x61D, 0x61D},     {0x9FD, 0x9FD},     {0xA76, 0xA76},     {0xC77, 0xC77},     {0xC84, 0xC84},
    {0x1B4E, 0x1B4F},   {0x1B7D, 0x1B7F},   {0x2E43, 0x2E4F},   {0x2E52, 0x2E5D},   {0x10D6E, 0x10D6E},
    {0x10EAD, 0x10EAD}, {0x10F55, 0x10F59}, {0x10F86, 0x10F89}, {0x113D4, 0x113D5}, {0x113D7, 0x113D8},
    {0x1144B, 0x1144F}, {0x1145A, 0x1145B}, {0x1145D, 0x1145D}, {0x11660, 0x1166C}, {0x116B9, 0x116B9},
    {0x1183B, 0x1183B}, {0x11944, 0x11946}, {0x119E2, 0x119E2}, {0x11A3F, 0x11A46}, {0x11A9A, 0x11A9C},
    {0x11A9E, 0x11AA2}, {0x11B00, 0x11B09}, {0x11BE1, 0x11BE1}, {0x11C41, 0x11C45}, {0x11C70, 0x11C71},
    {0x11EF7, 0x11EF8}, {0x11F43, 0x11F4F}, {0x11FFF, 0x11FFF}, {0x12FF1, 0x12FF2}, {0x16D6D, 0x16D6F},
    {0x16E97, 0x16E9A}, {0x16FE2, 0x16FE2}, {0x1E5FF, 0x1E5FF}, {0x1E95E, 0x1E95F}};

template <size_t kSize>
bool in_ranges(uint32_t code, const Range (&ranges)[kSize]) {
  const Range* const found =
      std::upper_bound(ranges, ranges + kSize, code, [](uint32_t c, const Range& range) { return c < range.first; });
  return found != ranges && code <= found[-1].last;
}

// The code point of a well-formed sequence.
LLMTOOL_INLINE uint32_t code_of(const uint8_t* p, uint32_t length) {
  switch (length) {
    case 1: return p[0];
    case 2: return (p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu);
    case 3: return (p[0] & 0xFu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
  }
  return (p[0] & 7u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
}

//  ?[^(\s|[.,!?…。，、।۔،])]+ : a class in a class, so `(`, `|` and `)` end a word too. The rest lies in pieces between.
struct Bloom {
  LLMTOOL_INLINE static const uint8_t* next(const uint8_t* p, const Text& text) {
    uint32_t length;
    if (in_word(p, text.end, length)) return word(p + length, text.end);
    if (starts_after_space(p, text.end)) return word(p + 1, text.end);
    for (p += length; p < text.end && !in_word(p, text.end, length) && !starts_after_space(p, text.end);) p += length;
    return p;
  }

  LLMTOOL_INLINE static bool starts_after_space(const uint8_t* p, const uint8_t* end) {
    uint32_t length;
    return *p == ' ' && p + 1 < end && in_word(p + 1, end, length);
  }

  LLMTOOL_INLINE static const uint8_t* word(const uint8_t* p, const uint8_t* end) {
    for (uint32_t length; p < end && in_word(p, end, length);) p += length;
    return p;
  }

  LLMTOOL_INLINE static bool in_word(const uint8_t* p, const uint8_t* end, uint32_t& length) {
    const CodePoint c = code_point(p, end);
    length = c.length;
    if (in(c.cls, kLetters | bit(kNumber) | bit(kMark))) return true;
    if (in(c.cls, kWhite)) return false;
    if (*p < 0x80) return !std::memchr("()|.,!?", *p, 7);
    if (c.length != 2 && c.length != 3) return true;  // a byte alone is no character of the list
    const uint32_t code = code_of(p, c.length);
    return code != 0x2026 && code != 0x3002 && code != 0xFF0C && code != 0x3001 && code != 0x964 && code != 0x6D4 &&
           code != 0x60C;
  }
};

// [\p{Han}]+, then o200k's pattern with three digits, where no word holds a character of \p{Han} and no sign is
// followed by a slash.
struct Kimi {
  static constexpr unsigned kW = bit(kLower) | bit(kCaseless) | bit(kMark);

  LLMTOOL_INLINE static const uint8_t* next(const uint8_t* p, const Text& text) {
    const CodePoint first = code_point(p, text.end);
    const uint8_t* q = p + first.length;
    if (is_han(p, first.length)) {
      while (q < text.end) {
        const CodePoint c = code_point(q, text.end);
        if (!is_han(q, c.length)) break;
        q += c.length;
      }
      return q;
    }
    if (first.cls == kNumber) return digits<3>(q, text.end);
    if (in(first.cls, kLetters | bit(kMark))) return word(p, text);
    if (first.cls != kNewline && q < text.end) {
      if (const uint8_t* end = word(q, text)) return end;
      if (*p == ' ') {
        const CodePoint second = code_point(q, text.end);
        if (in(second.cls, kOthers)) return Cl100k::others(q + second.length, text.end);
      }
    }
    if (in(first.cls, kOthers)) return Cl100k::others(q, text.end);
    return white_piece<true>(p, text.end);
  }

  LLMTOOL_INLINE static bool is_han(const uint8_t* p, uint32_t length) {
    return length >= 3 && in_ranges(code_of(p, length), kHan);
  }

  // As O200k's, up to a character of \p{Han}.
  LLMTOOL_INLINE static const uint8_t* word(const uint8_t* q, const Text& text) {
    const uint8_t *u = q, *last_of_both = nullptr;
    while (u < text.end) {
      const CodePoint c = code_point(u, text.end);
      if (is_han(u, c.length)) break;
      if (c.cls == kLower) return O200k::with_contraction(skip_w(u + c.length, text), text.end);
      if (c.cls != kUpper && !in(c.cls, kW)) break;
      u += c.length;
      if (c.cls != kUpper) last_of_both = u;
    }
    if (last_of_both) return O200k::with_contraction(last_of_both, text.end);
    return u > q ? O200k::with_contraction(u, text.end) : nullptr;
  }

  LLMTOOL_INLINE static const uint8_t* skip_w(const uint8_t* p, const Text& text) {
    for (;;) {
      p = skip_ascii_letters<false>(p, text);
      if (LLMTOOL_UNLIKELY(p >= text.end) || LLMTOOL_LIKELY(*p < 0x80)) return p;
      const CodePoint c = multibyte(p, text.end);
      if (!in(c.cls, kW) || is_han(p, c.length)) return p;
      p += c.length;
    }
  }
};

// Falcon's four steps in one: runs of punctuation, GPT-2's pattern in each of what that leaves, then, in the bytes as
// GPT-2 spells them, runs of numbers, and in those each three of 0-9. Six other bytes are spelled as numbers (² ³ ¹ ¼
// ½ ¾), so that pieces end inside of characters; where a piece begins there, the bytes before tell the character.
struct Falcon {
  static const uint8_t* next(const uint8_t* p, const Text& text) {
    const uint8_t* start = p;  // of the character that p lies in
    CodePoint c = code_point(p, text.end);
    if (LLMTOOL_UNLIKELY((*p & 0xC0) == 0x80)) {
      for (int back = 1; back <= 3 && p - back >= text.begin; ++back) {
        const CodePoint covering = code_point(p - back, text.end);
        if (covering.length > static_cast<uint32_t>(back)) {
          start = p - back, c = covering;
          break;
        }
      }
    }
    if (*p == ' ' && p + 1 < text.end) {
      const CodePoint second = code_point(p + 1, text.end);
      const Kind kind = kind_of(p + 1, second);
      if (kind != kBlank && kind != kPunct) return run(p, p + 1, second, kind, text);
    }
    const Kind kind = kind_of(start, c);
    return kind == kBlank ? white(p, text.end) : run(p, start, c, kind, text);
  }

 private:
  enum Kind { kWords, kDigits, kSigns, kPunct, kBlank };

  LLMTOOL_INLINE static Kind kind_of(const uint8_t* p, const CodePoint& c) {
    if (in(c.cls, kLetters)) return kWords;
    if (c.cls == kNumber) return kDigits;
    if (in(c.cls, kWhite)) return kBlank;
    if (*p < 0x80) return in(c.cls, bit(kPunctuation) | bit(kSymbol)) ? kPunct : kSigns;
    if (c.length == 1) return kSigns;
    const uint32_t code = code_of(p, c.length);
    if (c.cls == kPunctuation) return in_ranges(code, kLaterPunctuation) ? kSigns : kPunct;
    return code == 0x166D || code == 0x111C9 ? kPunct : kSigns;
  }

  LLMTOOL_INLINE static bool is_number(uint8_t byte) {
    return static_cast<uint8_t>(byte - '0') < 10 || byte == 0xB2 || byte == 0xB3 || byte == 0xB9 ||
           (byte >= 0xBC && byte <= 0xBE);
  }
  LLMTOOL_INLINE static bool is_digit(uint8_t byte) { return static_cast<uint8_t>(byte - '0') < 10; }

  // [0-9][0-9][0-9] at p: three numbers, so of one run.
  LLMTOOL_INLINE static bool is_three(const uint8_t* p, const uint8_t* end) {
    return end - p >= 3 && is_digit(p[0]) && is_digit(p[1]) && is_digit(p[2]);
  }

  // The piece from p: bytes spelled as numbers or not, as the first one, of the run of one kind that goes on with the
  // character c at `at`, up to the next three digits.
  static const uint8_t* run(const uint8_t* p, const uint8_t* at, CodePoint c, Kind kind, const Text& text) {
    const bool numbers = is_number(*p);
    for (const uint8_t* q = p;;) {
      for (const uint8_t* const end = at + c.length; q < end; ++q) {
        if (is_number(*q) != numbers) return q;
        if (numbers && is_three(q, text.end)) return q == p ? p + 3 : q;
      }
      at = q;
      if (at >= text.end) return q;
      c = code_point(at, text.end);
      if (kind_of(at, c) != kind) return q;
    }
  }

  // \s+(?!\S)|\s+ where the text ends at punctuation.
  static const uint8_t* white(const uint8_t* p, const uint8_t* end) {
    const uint8_t *q = p, *last = p;
    while (q < end) {
      const CodePoint c = code_point(q, end);
      if (!in(c.cls, kWhite)) return kind_of(q, c) != kPunct && last > p ? last : q;
      last = q;
      q += c.length;
    }
    return q;
  }
};

}  // namespace llmtool
