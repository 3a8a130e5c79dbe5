// A tokenizer file's texts as numbers: merges by the units that they join and make, spellings as the bytes they mean.
//
// What is not plain (a merge of texts that are no units, a pair listed twice, a character that spells no byte) gives
// nothing: the reader in Python then looks at each entry, and says what is wrong or reads it as `tokenizers` does.
#pragma once
#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bytes.hpp"

namespace llmtool {

// Text -> its place in a list; of equal texts the first.
class TextTable {
 public:
  explicit TextTable(const std::vector<std::string_view>& texts)
      : texts_(texts), slots_(power_of_two_at_least(2 * texts.size() + 1), kNone) {
    for (uint32_t place = 0; place < texts.size(); ++place) {
      uint32_t& slot = slots_[slot_of(texts[place])];
      if (slot == kNone) slot = place;
    }
  }

  // kNone if the text is not there.
  uint32_t find(std::string_view text) const { return slots_[slot_of(text)]; }

 private:
  // The slot that holds the text, or the free one where it would go.
  size_t slot_of(std::string_view text) const {
    const size_t mask = slots_.size() - 1;
    size_t slot = hash_bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size()) & mask;
    while (slots_[slot] != kNone && texts_[slots_[slot]] != text) slot = (slot + 1) & mask;
    return slot;
  }

  const std::vector<std::string_view>& texts_;
  std::vector<uint32_t> slots_;
};

using TextPair = std::pair<std::string_view, std::string_view>;

// (left, right, result) of each pair by places in `texts`.
inline std::optional<std::vector<uint32_t>> number_merges(const std::vector<std::string_view>& texts,
                                                          const std::vector<TextPair>& pairs) {
  const TextTable table(texts);
  std::vector<uint32_t> triples;
  std::vector<uint64_t> seen;
  triples.reserve(3 * pairs.size()), seen.reserve(pairs.size());
  std::string joined;
  for (const auto& [left, right] : pairs) {
    joined.assign(left).append(right);
    const uint32_t a = table.find(left), b = table.find(right), result = table.find(joined);
    if (a == kNone || b == kNone || result == kNone) return std::nullopt;
    triples.insert(triples.end(), {a, b, result});
    seen.push_back(uint64_t{a} << 32 | b);
  }
  std::sort(seen.begin(), seen.end());
  if (std::adjacent_find(seen.begin(), seen.end()) != seen.end()) return std::nullopt;
  return triples;
}

// Bytes one after another, text i ending at ends[i].
struct Spelled {
  std::vector<uint8_t> bytes;
  std::vector<uint64_t> ends;
};

// The bytes that each text means: character c of `alphabet` (UTF-8, 256 characters below U+0800) is byte number c;
// where there is no alphabet, its own.
inline std::optional<Spelled> spell(const std::vector<std::string_view>& texts, std::string_view alphabet) {
  constexpr uint16_t kNoByte = 256;
  std::vector<uint16_t> byte_of(0x800, kNoByte);
  const auto character = [](std::string_view text, size_t& at) -> uint32_t {  // kNone if it is none below U+0800
    const uint8_t first = static_cast<uint8_t>(text[at++]);
    if (first < 0x80) return first;
    if (first < 0xC2 || first > 0xDF || at == text.size()) return kNone;
    return (first & 0x1Fu) << 6 | (static_cast<uint8_t>(text[at++]) & 0x3Fu);
  };
  uint16_t byte = 0;
  for (size_t at = 0; at < alphabet.size(); ++byte) {
    const uint32_t c = character(alphabet, at);
    if (c == kNone || byte == kNoByte) return std::nullopt;
    byte_of[c] = byte;
  }
  Spelled out;
  for (const std::string_view text : texts) {
    if (alphabet.empty()) out.bytes.insert(out.bytes.end(), text.begin(), text.end());
    for (size_t at = 0; !alphabet.empty() && at < text.size();) {
      const uint32_t c = character(text, at);
      if (c == kNone || byte_of[c] == kNoByte) return std::nullopt;
      out.bytes.push_back(static_cast<uint8_t>(byte_of[c]));
    }
    out.ends.push_back(out.bytes.size());
  }
  return out;
}

}  // namespace llmtool
