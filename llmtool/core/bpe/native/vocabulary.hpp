// A vocabulary as the encoders see it: the bytes of each unit, the ids that each is written as, and the trie.
#pragma once
#include <iterator>

#include "scan.hpp"
#include "state.hpp"
#include "trie.hpp"

namespace llmtool {

// What a symbol that is no unit becomes: the units of its bytes, where all have one; else `unit`, which is written
// before the next known symbol or at the end, once for neighbours if `fuse`; kNone drops the symbol.
struct Unknown {
  std::vector<uint32_t> byte_units;  // 256, or none
  uint32_t unit = kNone;
  bool fuse = false;
};

class Vocabulary {
 public:
  // Unit u is the bytes up to ends[u] and is written as the ids emit[emit_ends[u - 1], emit_ends[u]). Units from
  // `known` on fill gaps: bytes that no text of known symbols holds, and empty ones for what unknown symbols become.
  Vocabulary(std::vector<uint8_t> bytes, std::vector<uint64_t> ends, std::vector<uint32_t> emit,
             std::vector<uint64_t> emit_ends, bool characters = false, size_t known = SIZE_MAX,
             Unknown unknown = {})
      : bytes_(checked(std::move(bytes), ends, "unit_ends")),
        ends_(std::move(ends)),
        emit_(checked(std::move(emit), emit_ends, "emit_ends")),
        emit_ends_(std::move(emit_ends)),
        trie_(TrieBuilder(bytes_, ends_).build()) {
    if (ends_.size() != emit_ends_.size()) throw std::invalid_argument("emit_ends: not one for each unit");
    if (ends_.size() > kMaxUnits) throw std::invalid_argument("the vocabulary is too large: over 2^20 units");
    lengths_.resize(size());
    for (uint32_t u = 0; u < size(); ++u) {
      const uint64_t length = ends_[u] - begin_of(u);
      // Output buffers are sized by this: no text has more ids than bytes.
      if (length && emit_count(u) > length) {
        throw std::invalid_argument("unit " + std::to_string(u) + " is written as more ids than it has bytes");
      }
      one_id_each_ &= emit_count(u) == 1;
      lengths_[u] = static_cast<uint32_t>(length);
      max_length_ = std::max(max_length_, lengths_[u]);
      if (length == 1) byte_units_[*unit_bytes(u)] = u;
    }
    for (int b = 0; b < 256; ++b) {
      if (byte_units_[b] == kNone) throw std::invalid_argument("no unit for byte " + std::to_string(b));
    }
    known_ = static_cast<uint32_t>(std::min<size_t>(known, ends_.size()));
    characters_ = characters;
    unknown_ = std::move(unknown);
    for (uint32_t b = 0; b < 256; ++b) complete_ &= is_known(byte_units_[b]);
    if (unknown_.byte_units.size() != 0 && unknown_.byte_units.size() != 256) {
      throw std::invalid_argument("unknown: not a unit for each byte");
    }
    check_stand_in(unknown_.unit);
    for (const uint32_t unit : unknown_.byte_units) check_stand_in(unit);
    std::copy_if(byte_units_.begin(), byte_units_.end(), std::back_inserter(atoms_), [this](uint32_t u) { return is_known(u); });
    for (uint32_t u = 0; characters && u < known_; ++u) {
      if (lengths_[u] > 1 && lengths_[u] == symbol_length(unit_bytes(u), unit_bytes(u) + lengths_[u])) atoms_.push_back(u);
    }
  }
  // As it was written.
  explicit Vocabulary(StateReader& state) { fields(state); }
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;

  template <class Visit>
  void fields(Visit& visit) {
    visit(bytes_), visit(ends_), visit(emit_), visit(emit_ends_), visit(lengths_), visit(byte_units_), visit(atoms_);
    visit(max_length_), visit(known_), visit(characters_), visit(complete_), visit(one_id_each_);
    visit(unknown_.byte_units), visit(unknown_.unit), visit(unknown_.fuse);
    trie_.fields(visit);
  }

  static constexpr size_t kMaxUnits = 1u << 20;

  uint32_t size() const { return static_cast<uint32_t>(ends_.size()); }
  const Trie& trie() const { return trie_; }
  const uint8_t* unit_bytes(uint32_t unit) const { return bytes_.data() + begin_of(unit); }
  uint32_t length(uint32_t unit) const { return lengths_[unit]; }
  uint32_t max_length() const { return max_length_; }
  uint32_t byte_unit(uint8_t byte) const { return byte_units_[byte]; }
  // The units that encoding starts from: the bytes, and in an alphabet of characters each character.
  const std::vector<uint32_t>& atoms() const { return atoms_; }
  const Unknown& unknown() const { return unknown_; }
  // Whether every symbol of any text is a unit.
  bool complete() const { return complete_ && !characters_; }
  bool is_known(uint32_t unit) const { return unit < known_; }

  // The length of the symbol at p: a byte, or a character; a byte that belongs to none is one.
  uint32_t symbol_length(const uint8_t* p, const uint8_t* end) const {
    return characters_ ? code_point(p, end).length : 1;
  }
  // The unit of the symbol of n bytes at p, or kNone if it has none.
  uint32_t symbol_unit(const uint8_t* p, uint32_t n) const {
    if (n == 1) return byte_units_[*p];
    const Trie::Match match = trie_.longest(p, p + n);
    return match.length == n ? trie_.unit_at(match.slot) : kNone;
  }

  // Writes the ids of the units, at most one for each byte they spell; returns the end.
  uint32_t* emit(const std::vector<uint32_t>& units, uint32_t* to) const {
    if (one_id_each_) {
      for (const uint32_t u : units) *to++ = emit_[u];
      return to;
    }
    for (const uint32_t u : units) {
      to = std::copy(emit_.begin() + (u ? emit_ends_[u - 1] : 0), emit_.begin() + emit_ends_[u], to);
    }
    return to;
  }

 private:
  template <class T>
  static std::vector<T> checked(std::vector<T> items, const std::vector<uint64_t>& ends, const char* name) {
    if (!std::is_sorted(ends.begin(), ends.end()) || (ends.empty() ? 0 : ends.back()) != items.size()) {
      throw std::invalid_argument(std::string(name) + ": offsets decrease or do not end where the items end");
    }
    // The lengths of units, and what is derived from them, are 32-bit.
    if (items.size() >= kNone) throw std::invalid_argument(std::string(name) + ": over 4 GB");
    return items;
  }

  // What stands for a byte or for an unknown symbol is there, and written as one id: no text has more ids than bytes.
  void check_stand_in(uint32_t unit) const {
    if (unit == kNone) return;
    if (unit >= size()) throw std::invalid_argument("unknown: names a unit that does not exist");
    if (emit_count(unit) > 1) throw std::invalid_argument("unknown: a unit is written as more than one id");
  }

  uint64_t begin_of(uint32_t unit) const { return unit ? ends_[unit - 1] : 0; }
  uint64_t emit_count(uint32_t unit) const { return emit_ends_[unit] - (unit ? emit_ends_[unit - 1] : 0); }

  std::vector<uint8_t> bytes_;
  std::vector<uint64_t> ends_;
  std::vector<uint32_t> emit_;
  std::vector<uint64_t> emit_ends_;
  Trie trie_;
  std::vector<uint32_t> lengths_;
  std::vector<uint32_t> byte_units_ = std::vector<uint32_t>(256, kNone);
  std::vector<uint32_t> atoms_;
  uint32_t max_length_ = 0, known_ = 0;
  bool characters_ = false, complete_ = true;
  Unknown unknown_;
  bool one_id_each_ = true;
};

}  // namespace llmtool
