// Added tokens: texts that are found before anything is cut, and cut out with the white space that they take along.
//
// The leftmost, longest match is taken; a special token that is not allowed still covers its place.
#pragma once
#include "scan.hpp"
#include "trie.hpp"

namespace llmtool {

// What documents are made of, in order: kSegment for a text that is still to be encoded, the id of an added token, and
// kEndOfDocument after the last part of each.
inline constexpr uint32_t kSegment = 0xFFFFFFFFu, kEndOfDocument = 0xFFFFFFFEu;

struct Segments {
  std::vector<uint8_t> text;
  std::vector<uint64_t> ends;
  std::vector<uint32_t> layout;
};

class AddedTokens {
 public:
  static constexpr uint8_t kSpecial = 1, kLeft = 2, kRight = 4;

  // Token t is the bytes up to ends[t], is written as ids[t] and has the flags flags[t].
  AddedTokens(std::vector<uint8_t> bytes, std::vector<uint64_t> ends, std::vector<uint32_t> ids,
              std::vector<uint8_t> flags)
      : bytes_(std::move(bytes)), ends_(std::move(ends)), ids_(std::move(ids)), flags_(std::move(flags)) {
    if (!std::is_sorted(ends_.begin(), ends_.end()) || (ends_.empty() ? 0 : ends_.back()) != bytes_.size() ||
        ids_.size() != ends_.size() || flags_.size() != ends_.size()) {
      throw std::invalid_argument("added tokens: not one id and one set of flags for each text");
    }
    trie_ = TrieBuilder(bytes_, ends_).build();
    for (size_t t = 0; t < ends_.size(); ++t) {
      const uint64_t begin = t ? ends_[t - 1] : 0;
      if (begin < ends_[t]) begins_[bytes_[begin]] = true;
    }
  }

  Segments cut(const uint8_t* text, const std::vector<uint64_t>& ends, bool allow_special) const {
    Segments out;
    out.text.reserve(ends.empty() ? 0 : ends.back());
    uint64_t begin = 0;
    for (const uint64_t end : ends) {
      cut_document(text + begin, text + end, allow_special, out);
      out.layout.push_back(kEndOfDocument);
      begin = end;
    }
    return out;
  }

 private:
  void cut_document(const uint8_t* const begin, const uint8_t* const end, bool allow_special, Segments& out) const {
    const uint8_t* taken = begin;
    for (const uint8_t* p = begin; p < end;) {
      if (LLMTOOL_LIKELY(!begins_[*p])) {
        ++p;
        continue;
      }
      const Trie::Match match = trie_.longest(p, end);
      if (!match.length) {
        ++p;
        continue;
      }
      const uint8_t *start = p, *stop = p + match.length;
      p = stop;
      const uint32_t token = trie_.unit_at(match.slot);
      if ((flags_[token] & kSpecial) && !allow_special) continue;
      if (flags_[token] & kLeft) {
        while (start > taken) {
          const uint8_t* before = start - 1;
          while (before > taken && (*before & 0xC0) == 0x80) --before;
          const CodePoint c = code_point(before, end);
          if (before + c.length != start || !in(c.cls, kWhite)) break;
          start = before;
        }
      }
      if (flags_[token] & kRight) stop = skip(stop, end, kWhite);
      if (start > taken) add(taken, start, out);
      out.layout.push_back(ids_[token]);
      taken = stop;
    }
    if (taken < end) add(taken, end, out);
  }

  static void add(const uint8_t* begin, const uint8_t* end, Segments& out) {
    out.text.insert(out.text.end(), begin, end);
    out.ends.push_back(out.text.size());
    out.layout.push_back(kSegment);
  }

  std::vector<uint8_t> bytes_;
  std::vector<uint64_t> ends_;
  std::vector<uint32_t> ids_;
  std::vector<uint8_t> flags_;
  Trie trie_;
  bool begins_[256] = {};
};

// The ids of documents from those of their segments, which end at `ends`.
struct Joined {
  std::vector<uint32_t> ids;
  std::vector<uint64_t> ends;
};

inline Joined join(const std::vector<uint32_t>& ids, const std::vector<uint64_t>& ends,
                   const std::vector<uint32_t>& layout) {
  Joined out;
  out.ids.reserve(ids.size() + layout.size());
  size_t segment = 0;
  for (const uint32_t part : layout) {
    if (part == kEndOfDocument) {
      out.ends.push_back(out.ids.size());
    } else if (part != kSegment) {
      out.ids.push_back(part);
    } else {
      if (segment >= ends.size()) throw std::invalid_argument("layout: more segments than were encoded");
      const uint64_t begin = segment ? ends[segment - 1] : 0, end = ends[segment];
      if (begin > end || end > ids.size()) throw std::invalid_argument("ends: offsets decrease or leave the ids");
      out.ids.insert(out.ids.end(), ids.begin() + static_cast<ptrdiff_t>(begin), ids.begin() + static_cast<ptrdiff_t>(end));
      ++segment;
    }
  }
  if (segment != ends.size()) throw std::invalid_argument("layout: fewer segments than were encoded");
  return out;
}

// `outer`, whose segments were cut again as the documents of `inner`.
inline std::vector<uint32_t> nest(const std::vector<uint32_t>& outer, const std::vector<uint32_t>& inner) {
  std::vector<uint32_t> out;
  out.reserve(outer.size() + inner.size());
  auto part = inner.begin();
  for (const uint32_t entry : outer) {
    if (entry != kSegment) {
      out.push_back(entry);
      continue;
    }
    for (; part != inner.end() && *part != kEndOfDocument; ++part) out.push_back(*part);
    if (part == inner.end()) throw std::invalid_argument("layout: fewer documents than segments");
    ++part;
  }
  return out;
}

}  // namespace llmtool
