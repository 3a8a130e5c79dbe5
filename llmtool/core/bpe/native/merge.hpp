// Byte-pair encoding of one piece: the result of always merging the pair of lowest rank, leftmost first.
//
// Merging step by step is slow: every merge waits for loads that depend on the one before. What is computed here
// instead is the same result by a walk from left to right. A sequence of units is the encoding of its bytes if and
// only if each two neighbours are the encoding of theirs (the first merge across a border between two neighbours
// would also be made with nothing around them), so it is enough to try the longest unit first, check it against
// its left neighbour by undoing both units' merges, and step back where nothing fits.
#pragma once
#include <queue>

#include "vocabulary.hpp"

namespace llmtool {

// Working memory of one thread.
struct Scratch {
  std::vector<uint32_t> units;           // the result
  std::vector<uint64_t> dead;            // merge.hpp: bit per position that no encoding passes
  std::vector<uint32_t> at, next, prev;  // long pieces
  std::vector<std::vector<uint32_t>> by_length;  // policy_lbpe.hpp
  uint64_t operations = 0;               // steps of inner loops, for tests against quadratic blow-up
};

// (left, right) -> time of the merge, which is its rank + 1; open addressing, 20 + 20 + 24 bits an entry.
class PairTimes {
 public:
  static constexpr uint32_t kMaxTime = (1u << 24) - 2;

  explicit PairTimes(size_t pairs) : entries_(power_of_two_at_least(std::max<size_t>(pairs * 2, 64)), kFree) {
    for (size_t n = entries_.size(); n > 1; n /= 2) --shift_;
  }

  // False if the pair is there already.
  bool insert(uint32_t left, uint32_t right, uint32_t time) {
    const uint64_t key = key_of(left, right);
    size_t i = slot_of(key);
    for (; entries_[i] != kFree; i = (i + 1) & (entries_.size() - 1)) {
      if (entries_[i] >> 24 == key) return false;
    }
    entries_[i] = key << 24 | time;
    return true;
  }

  // kNone if the pair is never merged.
  LLMTOOL_INLINE uint32_t find(uint32_t left, uint32_t right) const {
    const uint64_t key = key_of(left, right);
    for (size_t i = slot_of(key);; i = (i + 1) & (entries_.size() - 1)) {
      const uint64_t entry = entries_[i];
      if (entry >> 24 == key) return static_cast<uint32_t>(entry) & 0xFFFFFF;
      if (entry == kFree) return kNone;
    }
  }

 private:
  static constexpr uint64_t kFree = ~0ull;  // the time 2^24 - 1 is never stored

  static uint64_t key_of(uint32_t left, uint32_t right) { return static_cast<uint64_t>(left) << 20 | right; }
  size_t slot_of(uint64_t key) const { return key * 0x9E3779B97F4A7C15ull >> shift_; }

  std::vector<uint64_t> entries_;
  unsigned shift_ = 64;
};

struct Merge {
  uint32_t left, right, result;
};

class MergePolicy {
 public:
  MergePolicy(const Vocabulary& vocabulary, const std::vector<Merge>& merges, bool ignore_merges)
      : vocabulary_(vocabulary), merges_(merges), times_(merges.size()), ignore_merges_(ignore_merges) {
    if (merges.size() > PairTimes::kMaxTime) throw std::invalid_argument("over 2^24 merges");
    for (uint32_t rank = 0; rank < merges.size(); ++rank) insert(rank);
    units_.resize(vocabulary.size());
    for (uint32_t u = 0; u < units_.size(); ++u) units_[u].length = vocabulary.length(u);
    find_reachable();
    reversible_ = is_reversible();
    find_candidates();
  }

  // Replaces scratch.units by the encoding of [p, p + n), n > 0.
  void encode(const uint8_t* p, size_t n, Scratch& scratch) const {
    scratch.units.clear();
    if (reversible_) {
      encode_from_left(p, n, scratch);
    } else {
      encode_by_merging(p, n, scratch);
    }
  }

 private:
  // What a unit was merged from, last. A byte has time 0; a unit that its own bytes do not become has kNone.
  struct Unit {
    uint32_t left = 0, right = 0, time = kNone, length = 0;
  };

  void insert(uint32_t rank) {
    const auto [left, right, result] = merges_[rank];
    const auto refuse = [&](const char* why) {
      throw std::invalid_argument("merge " + std::to_string(rank) + " " + why);
    };
    if (std::max({left, right, result}) >= vocabulary_.size()) refuse("names a unit that does not exist");
    const uint32_t l = vocabulary_.length(left), r = vocabulary_.length(right);
    if (!l || !r) refuse("joins a unit without bytes");
    if (l + uint64_t{r} != vocabulary_.length(result) ||
        std::memcmp(vocabulary_.unit_bytes(result), vocabulary_.unit_bytes(left), l) ||
        std::memcmp(vocabulary_.unit_bytes(result) + l, vocabulary_.unit_bytes(right), r)) {
      refuse("does not spell its result");
    }
    if (!times_.insert(left, right, rank + 1)) refuse("joins a pair that an earlier one joins");
  }

  // Whether `left` and `right` side by side stay as they are before `limit`: undo the younger of the two units and
  // see whether what then meets at the border would have been merged before it. At equal times the left one was
  // merged first, hence the asymmetry.
  bool compatible(uint32_t left, uint32_t right, uint32_t limit, uint64_t& operations) const {
    for (;;) {
      ++operations;
      if (times_.find(left, right) < limit) return false;
      const Unit &l = units_[left], &r = units_[right];
      if (l.time > r.time) {
        limit = l.time;
        left = l.right;
      } else if (r.time) {
        limit = r.time + 1;
        right = r.left;
      } else {
        return true;
      }
    }
  }

  // A unit is reachable if the encoding of its bytes is the unit itself.
  void find_reachable() {
    for (int b = 0; b < 256; ++b) units_[vocabulary_.byte_unit(static_cast<uint8_t>(b))].time = 0;
    uint64_t operations = 0;
    for (uint32_t rank = 0; rank < merges_.size(); ++rank) {
      const auto [left, right, result] = merges_[rank];
      const uint32_t time = rank + 1;
      if (units_[left].time == kNone || units_[right].time == kNone || units_[result].time != kNone) continue;
      if (compatible(left, right, time, operations)) {
        units_[result] = {left, right, time, units_[result].length};
      }
    }
  }

  // Undoing merges from the youngest to the oldest is right if no merge is older than the units it joins. Converted
  // tokenizers list such merges; they never happen if their result is made from another pair before.
  bool is_reversible() const {
    for (uint32_t rank = 0; rank < merges_.size(); ++rank) {
      const auto [left, right, result] = merges_[rank];
      if (units_[left].time == kNone || units_[right].time == kNone) continue;
      const uint32_t parts = std::max(units_[left].time, units_[right].time);
      if (parts > rank && units_[result].time > parts) return false;
    }
    return true;
  }

  // For each slot of the trie and each unit, the longest *reachable* unit that is its prefix.
  void find_candidates() {
    const Trie& trie = vocabulary_.trie();
    std::vector<uint32_t> candidate(units_.size(), kNone);
    shorter_.assign(units_.size(), kNone);
    for (const uint32_t u : trie.sorted()) {
      if (trie.shorter(u) != kNone) shorter_[u] = candidate[trie.shorter(u)];
      candidate[u] = units_[u].time != kNone ? u : shorter_[u];
    }
    candidate_at_.assign(trie.slots(), kNone);
    for (uint32_t slot = 0; slot < trie.slots(); ++slot) {
      if (trie.unit_at(slot) != kNone) candidate_at_[slot] = candidate[trie.unit_at(slot)];
    }
  }

  void encode_from_left(const uint8_t* p, size_t n, Scratch& scratch) const {
    const uint8_t* const end = p + n;
    std::vector<uint32_t>& out = scratch.units;
    uint64_t& operations = scratch.operations;
    Trie::Match match = vocabulary_.trie().longest(p, end);
    operations += match.length;
    if (ignore_merges_ && match.length == n) {
      out.push_back(vocabulary_.trie().unit_at(match.slot));
      return;
    }
    uint32_t unit = candidate_at_[match.slot];
    if (units_[unit].length == n) {
      out.push_back(unit);
      return;
    }
    scratch.dead.assign(n / 64 + 1, 0);
    uint64_t* const dead = scratch.dead.data();
    for (size_t position = 0;;) {
      const size_t after = position + units_[unit].length;
      ++operations;
      if (!(dead[after / 64] >> (after % 64) & 1) &&
          (out.empty() || compatible(out.back(), unit, kNone, operations))) {
        out.push_back(unit);
        if (after == n) return;
        position = after;
        match = vocabulary_.trie().longest(p + position, end);
        operations += match.length;
        unit = candidate_at_[match.slot];
        continue;
      }
      unit = shorter_[unit];
      // Nothing fits here: the encoding of the bytes so far is unique, so no other way to this position is left.
      while (unit == kNone) {
        dead[position / 64] |= 1ull << (position % 64);
        unit = out.back();
        out.pop_back();
        position -= units_[unit].length;
        unit = shorter_[unit];
      }
    }
  }

  // Any merge list at all: a heap of (rank, position), O(n log n).
  void encode_by_merging(const uint8_t* p, size_t n, Scratch& scratch) const {
    std::vector<uint32_t>& out = scratch.units;
    if (ignore_merges_) {
      const Trie::Match match = vocabulary_.trie().longest(p, p + n);
      if (match.length == n) {
        out.push_back(vocabulary_.trie().unit_at(match.slot));
        return;
      }
    }
    std::vector<uint32_t>&at = scratch.at, &next = scratch.next, &prev = scratch.prev;
    at.resize(n), next.resize(n), prev.resize(n);
    std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> queue;
    const auto push = [&](uint32_t i) {
      if (const uint32_t j = next[i]; j < n) {
        if (const uint32_t time = times_.find(at[i], at[j]); time != kNone) queue.push(uint64_t{time} << 32 | i);
      }
    };
    for (uint32_t i = 0; i < n; ++i) at[i] = vocabulary_.byte_unit(p[i]), next[i] = i + 1, prev[i] = i - 1;
    for (uint32_t i = 0; i + 1 < n; ++i) push(i);
    while (!queue.empty()) {
      ++scratch.operations;
      const uint32_t time = static_cast<uint32_t>(queue.top() >> 32), i = static_cast<uint32_t>(queue.top());
      queue.pop();
      const uint32_t j = next[i];
      if (at[i] == kNone || j >= n || times_.find(at[i], at[j]) != time) continue;  // merged away since
      at[i] = merges_[time - 1].result;
      at[j] = kNone;
      next[i] = next[j];
      if (next[i] < n) prev[next[i]] = i;
      push(i);
      if (i) push(prev[i]);
    }
    for (uint32_t i = 0; i < n; i = next[i]) out.push_back(at[i]);
  }

  const Vocabulary& vocabulary_;
  const std::vector<Merge> merges_;
  PairTimes times_;
  std::vector<Unit> units_;
  std::vector<uint32_t> shorter_, candidate_at_;
  bool reversible_ = false;
  const bool ignore_merges_;
};

}  // namespace llmtool
