// (a, b) -> number for pairs that are all known at once: every look-up is one probe without a loop.
//
// Hash and displace: a pair's bucket tells a displacement with which no two pairs of the map fall into one slot. Almost
// all look-ups of an encoder miss, and where a probe sequence ends cannot be predicted; 0.2 us a piece were lost to it.
#pragma once
#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "bytes.hpp"

namespace llmtool {

class PairMap {
 public:
  struct Item {
    uint32_t a, b;    // below 2^20
    uint32_t number;  // at most kMaxNumber
  };
  static constexpr uint32_t kMaxNumber = (1u << 24) - 2;

  PairMap() : PairMap(std::vector<Item>{}) {}

  explicit PairMap(const std::vector<Item>& items) {
    const size_t slots = power_of_two_at_least(std::max<size_t>(items.size() + items.size() / 2, 64));
    for (size_t size = slots; !build(items, size); size *= 2) {
      if (size > 8 * slots) throw std::invalid_argument("the pairs cannot be told apart: this list is made to fail");
    }
  }

  template <class Visit>
  void fields(Visit& visit) {
    visit(entries_), visit(displacements_), visit(bucket_shift_);
  }

  // kNone if the pair is not there.
  LLMTOOL_INLINE uint32_t find(uint32_t a, uint32_t b) const {
    const uint64_t key = key_of(a, b);
    const uint64_t entry = entries_[slot_of(key, displacements_[bucket_of(key)])];
    return entry >> 24 == key ? static_cast<uint32_t>(entry) & 0xFFFFFF : kNone;
  }

 private:
  static constexpr uint64_t kFree = ~0ull;
  static constexpr size_t kSlotsPerBucket = 4;

  static uint64_t key_of(uint32_t a, uint32_t b) { return static_cast<uint64_t>(a) << 20 | b; }
  size_t bucket_of(uint64_t key) const { return key * 0x9E3779B97F4A7C15ull >> bucket_shift_; }
  LLMTOOL_INLINE size_t slot_of(uint64_t key, uint64_t displacement) const {
    return fold_multiply(key ^ displacement * 0xD6E8FEB86659FD93ull, 0xA0761D6478BD642Full) & (entries_.size() - 1);
  }

  // The largest buckets first, while there is room; false if one of them finds no place.
  bool build(const std::vector<Item>& items, size_t slots) {
    const size_t buckets = slots / kSlotsPerBucket;
    bucket_shift_ = 64 - static_cast<unsigned>(__builtin_ctzll(buckets));
    entries_.assign(slots, kFree);
    displacements_.assign(buckets, 0);
    std::vector<uint32_t> ends(buckets + 1), order(buckets);
    for (const Item& item : items) ++ends[bucket_of(key_of(item.a, item.b)) + 1];
    std::partial_sum(ends.begin(), ends.end(), ends.begin());
    std::vector<uint64_t> sorted(items.size());
    std::vector<uint32_t> next(ends.begin(), ends.end() - 1);
    for (const Item& item : items) {
      const uint64_t key = key_of(item.a, item.b);
      sorted[next[bucket_of(key)]++] = key << 24 | item.number;
    }
    std::iota(order.begin(), order.end(), 0);
    const auto size = [&](uint32_t bucket) { return ends[bucket + 1] - ends[bucket]; };
    std::stable_sort(order.begin(), order.end(), [&](uint32_t x, uint32_t y) { return size(x) > size(y); });
    return std::all_of(order.begin(), order.end(), [&](uint32_t bucket) {
      return place(bucket, sorted.data() + ends[bucket], sorted.data() + ends[bucket + 1]);
    });
  }

  bool place(uint32_t bucket, const uint64_t* first, const uint64_t* last) {
    for (uint32_t displacement = 0; displacement <= UINT16_MAX; ++displacement) {
      const uint64_t* entry = first;
      for (; entry < last; ++entry) {
        uint64_t& slot = entries_[slot_of(*entry >> 24, displacement)];
        if (slot != kFree) break;
        slot = *entry;
      }
      if (entry == last) {
        displacements_[bucket] = static_cast<uint16_t>(displacement);
        return true;
      }
      while (entry > first) entries_[slot_of(*--entry >> 24, displacement)] = kFree;
    }
    return false;
  }

  std::vector<uint64_t> entries_;  // 20 + 20 bits of the pair, 24 of the number
  std::vector<uint16_t> displacements_;
  unsigned bucket_shift_ = 0;
};

}  // namespace llmtool
