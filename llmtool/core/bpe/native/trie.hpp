// All units of a vocabulary in a double-array trie: one four-byte load a byte of text finds the longest unit.
//
// The child of a node by byte c lies in slot base(node) ^ c. Every node has a base of its own, so a slot that
// carries label c can only belong to the node whose base is slot ^ c, and the label alone is the check.
#pragma once
#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bytes.hpp"

namespace llmtool {

class Trie {
 public:
  struct Match {
    uint32_t slot;    // of the longest unit; kNone if no unit matches
    uint32_t length;  // in bytes
  };

  // The longest unit that [p, end) begins with.
  LLMTOOL_INLINE Match longest(const uint8_t* p, const uint8_t* end) const {
    Match match{kNone, 0};
    uint32_t base = root_;
    for (const uint8_t* q = p; q < end;) {
      const uint32_t slot = base ^ *q;
      const uint32_t entry = slots_[slot];
      if ((entry & kLabelMask) != *q) break;
      ++q;
      if (entry & kIsUnit) match = {slot, static_cast<uint32_t>(q - p)};
      base = entry >> kBaseShift;
    }
    return match;
  }

  uint32_t unit_at(uint32_t slot) const { return unit_at_[slot]; }
  size_t slots() const { return slots_.size(); }
  // The longest unit that is a proper prefix of `unit`, or kNone.
  uint32_t shorter(uint32_t unit) const { return shorter_[unit]; }
  // All non-empty units in the order of their bytes, so that a prefix goes before what it begins.
  const std::vector<uint32_t>& sorted() const { return sorted_; }

  template <class Visit>
  void fields(Visit& visit) {
    visit(slots_), visit(unit_at_), visit(shorter_), visit(sorted_), visit(root_);
  }

 private:
  friend class TrieBuilder;
  // A slot: label in bits 0-7, "empty" in bit 8, "a unit ends here" in bit 9, base in the rest.
  static constexpr uint32_t kLabelMask = 0x1FF, kEmpty = 0x100, kIsUnit = 0x200, kBaseShift = 10;

  std::vector<uint32_t> slots_, unit_at_, shorter_, sorted_;
  uint32_t root_ = 0;
};

class TrieBuilder {
 public:
  // `bytes` holds the units one after another, unit u ending at ends[u]; empty units never match.
  TrieBuilder(const std::vector<uint8_t>& bytes, const std::vector<uint64_t>& ends) : bytes_(bytes), ends_(ends) {}

  Trie build() {
    trie_.shorter_.assign(ends_.size(), kNone);
    sort_units();
    add_block();
    used_base_[kLeafBase] = true;
    trie_.root_ = place({0, static_cast<uint32_t>(trie_.sorted_.size()), 0, kNone, kNone});
    while (!pending_.empty()) {
      const Node node = pending_.back();
      pending_.pop_back();
      const uint32_t base = place(node);
      trie_.slots_[node.slot] |= base << Trie::kBaseShift;
    }
    return std::move(trie_);
  }

 private:
  static constexpr uint32_t kMaxSlots = 1u << (32 - Trie::kBaseShift), kBlock = 256;
  static constexpr uint32_t kLeafBase = 0;  // no node's base, so that nothing follows a leaf
  static constexpr size_t kOpenBlocks = 16;  // older blocks keep their holes, a few per cent, and the search is short

  // The units sorted_[first, last), which share their first `depth` bytes; `prefix` is the longest unit on the way.
  struct Node {
    uint32_t first, last, depth, slot, prefix;
  };
  struct Child {
    uint8_t label;
    Node node;
  };

  uint64_t begin_of(uint32_t unit) const { return unit ? ends_[unit - 1] : 0; }
  uint64_t length_of(uint32_t unit) const { return ends_[unit] - begin_of(unit); }

  int compare(uint32_t a, uint32_t b) const {
    const uint64_t la = length_of(a), lb = length_of(b);
    const int order = std::memcmp(&bytes_[begin_of(a)], &bytes_[begin_of(b)], std::min(la, lb));
    return order ? order : la < lb ? -1 : la > lb;
  }

  void sort_units() {
    std::vector<uint32_t>& sorted = trie_.sorted_;
    for (uint32_t u = 0; u < ends_.size(); ++u) {
      if (length_of(u)) sorted.push_back(u);
    }
    std::sort(sorted.begin(), sorted.end(), [this](uint32_t a, uint32_t b) { return compare(a, b) < 0; });
    for (size_t i = 1; i < sorted.size(); ++i) {
      if (compare(sorted[i - 1], sorted[i]) == 0) {
        const auto [a, b] = std::minmax(sorted[i - 1], sorted[i]);
        throw std::invalid_argument("units " + std::to_string(a) + " and " + std::to_string(b) + " are the same bytes");
      }
    }
  }

  void add_block() {
    const size_t size = trie_.slots_.size() + kBlock;
    if (size > kMaxSlots) throw std::invalid_argument("the vocabulary is too large: over 4 million prefixes");
    trie_.slots_.resize(size, Trie::kEmpty);
    trie_.unit_at_.resize(size, kNone);
    used_base_.resize(size);
    for (size_t slot = skip_.size(); slot <= size; ++slot) skip_.push_back(static_cast<uint32_t>(slot));
  }

  // Gives the node's children their slots and returns its base.
  uint32_t place(const Node& node) {
    find_children(node);
    if (children_.empty()) return kLeafBase;
    const uint32_t base = find_base();
    used_base_[base] = true;
    for (Child& child : children_) {
      const uint32_t slot = base ^ child.label;
      child.node.slot = slot;
      trie_.slots_[slot] = child.label;
      skip_[slot] = slot + 1;
      const uint32_t unit = trie_.sorted_[child.node.first];  // the shortest goes first
      if (length_of(unit) == child.node.depth) {
        trie_.slots_[slot] |= Trie::kIsUnit;
        trie_.unit_at_[slot] = unit;
        trie_.shorter_[unit] = child.node.prefix;
        child.node.prefix = unit;
        ++child.node.first;
      }
      pending_.push_back(child.node);
    }
    return base;
  }

  void find_children(const Node& node) {
    children_.clear();
    for (uint32_t i = node.first; i < node.last; ++i) {
      const uint8_t label = bytes_[begin_of(trie_.sorted_[i]) + node.depth];
      if (children_.empty() || children_.back().label != label) {
        children_.push_back({label, {i, i, node.depth + 1, kNone, node.prefix}});
      }
      children_.back().node.last = i + 1;
    }
  }

  uint32_t find_base() {
    for (;;) {
      const uint32_t size = static_cast<uint32_t>(trie_.slots_.size());
      const uint32_t oldest = size > kOpenBlocks * kBlock ? size - kOpenBlocks * kBlock : 0;
      for (uint32_t slot = next_empty(oldest); slot < size; slot = next_empty(slot + 1)) {
        const uint32_t base = slot ^ children_.front().label;
        if (!used_base_[base] && fits(base)) return base;
      }
      add_block();
    }
  }

  // The first empty slot at or after `slot`; the number of slots if there is none.
  uint32_t next_empty(uint32_t slot) {
    while (skip_[slot] != slot) slot = skip_[slot] = skip_[skip_[slot]];
    return slot;
  }

  bool fits(uint32_t base) const {
    return std::all_of(children_.begin(), children_.end(),
                       [&](const Child& c) { return trie_.slots_[base ^ c.label] == Trie::kEmpty; });
  }

  const std::vector<uint8_t>& bytes_;
  const std::vector<uint64_t>& ends_;
  Trie trie_;
  std::vector<bool> used_base_;
  std::vector<Node> pending_;
  std::vector<Child> children_;
  // For each slot one that is not after the next empty one: itself if it is empty. Searching slot by slot took nine
  // tenths of the time that a vocabulary of 150,000 units takes to load.
  std::vector<uint32_t> skip_;
};

}  // namespace llmtool
