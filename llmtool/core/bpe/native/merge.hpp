// Byte-pair encoding of one piece: the result of always merging the pair of lowest rank, leftmost first.
//
// Merging step by step is slow: every merge waits for loads that depend on the one before. What is computed here
// instead is the same result by a walk from left to right. A sequence of units is the encoding of its bytes if and
// only if each two neighbours are the encoding of theirs (the first merge across a border between two neighbours
// would also be made with nothing around them), so it is enough to try the longest unit first, check it against
// its left neighbour by undoing both units' merges, and step back where nothing fits.
#pragma once
#include <queue>

#include "pair_map.hpp"
#include "vocabulary.hpp"

namespace llmtool {

// Working memory of one thread.
struct Scratch {
  std::vector<uint32_t> units;                   // the result
  std::vector<uint64_t> dead;                    // merge.hpp: a bit for each position that no encoding passes
  std::vector<uint32_t> at, next, prev;          // of long pieces, by position
  std::vector<std::vector<uint32_t>> by_length;  // policy_lbpe.hpp
  uint64_t operations = 0;                       // steps of inner loops, for tests against quadratic blow-up
};

struct Merge {
  uint32_t left, right, result;
};

class MergePolicy {
 public:
  MergePolicy(const Vocabulary& vocabulary, const std::vector<Merge>& merges, bool ignore_merges)
      : vocabulary_(vocabulary), merges_(merges), ignore_merges_(ignore_merges), ranks_(checked_ranks()) {
    const Reachable reachable = find_reachable();
    reversible_ = is_reversible(reachable);
    if (reversible_) number_units(reachable);
  }

  // As it was written, for the same vocabulary.
  MergePolicy(const Vocabulary& vocabulary, StateReader& state) : vocabulary_(vocabulary) { fields(state); }

  template <class Visit>
  void fields(Visit& visit) {
    visit(merges_), visit(ignore_merges_), visit(reversible_), visit(atoms_), visit(unit_of_), visit(parts_);
    visit(candidates_), visit(candidate_at_);
    ranks_.fields(visit), times_.fields(visit);
  }

  // Replaces scratch.units by the encoding of [p, p + n), n > 0.
  void encode(const uint8_t* p, size_t n, Scratch& scratch) const { encode(p, n, scratch, ignore_merges_); }

  // The same by merges alone.
  void encode_run(const uint8_t* p, size_t n, Scratch& scratch) const { encode(p, n, scratch, false); }

  // Whether a piece is taken whole, if it is a unit, whatever the merges say.
  bool takes_whole_pieces() const { return ignore_merges_; }

 private:
  void encode(const uint8_t* p, size_t n, Scratch& scratch, bool whole) const {
    scratch.units.clear();
    if (reversible_) {
      encode_from_left(p, n, scratch, whole);
    } else {
      encode_by_merging(p, n, scratch, whole);
    }
  }

  // A unit is reachable if its own bytes become that unit. By unit: the time of the merge that makes it, which is its
  // rank + 1, 0 for bytes and kNone if there is none, and the two units joined.
  struct Reachable {
    std::vector<uint32_t> time, left, right;
  };
  // Of a reachable unit by its number: the bytes come first, then the others in the order of their times.
  struct Parts {
    uint32_t left, right;
  };
  struct Candidate {
    uint32_t length, shorter;  // shorter: the longest reachable proper prefix
  };

  std::vector<PairMap::Item> checked_ranks() const {
    if (merges_.size() >= PairMap::kMaxNumber) throw std::invalid_argument("over 2^24 merges");
    std::vector<PairMap::Item> items;
    for (uint32_t rank = 0; rank < merges_.size(); ++rank) {
      const auto [left, right, result] = merges_[rank];
      if (std::max({left, right, result}) >= vocabulary_.size()) refuse(rank, "names a unit that does not exist");
      const uint32_t l = vocabulary_.length(left), r = vocabulary_.length(right);
      if (!l || !r) refuse(rank, "joins a unit without bytes");
      if (l + uint64_t{r} != vocabulary_.length(result) ||
          std::memcmp(vocabulary_.unit_bytes(result), vocabulary_.unit_bytes(left), l) ||
          std::memcmp(vocabulary_.unit_bytes(result) + l, vocabulary_.unit_bytes(right), r)) {
        refuse(rank, "does not spell its result");
      }
      items.push_back({left, right, rank});
    }
    const auto pair_of = [](const PairMap::Item& item) { return uint64_t{item.a} << 32 | item.b; };
    std::vector<PairMap::Item> sorted = items;
    std::stable_sort(sorted.begin(), sorted.end(), [&](const auto& x, const auto& y) { return pair_of(x) < pair_of(y); });
    for (size_t i = 1; i < sorted.size(); ++i) {
      if (pair_of(sorted[i - 1]) == pair_of(sorted[i])) refuse(sorted[i].number, "joins a pair that an earlier one joins");
    }
    return items;
  }

  [[noreturn]] static void refuse(uint32_t rank, const char* why) {
    throw std::invalid_argument("merge " + std::to_string(rank) + " " + why);
  }

  // By rank: a merge makes its result reachable if both parts are and if nothing across their border comes before it.
  Reachable find_reachable() const {
    Reachable units{std::vector<uint32_t>(vocabulary_.size(), kNone), std::vector<uint32_t>(vocabulary_.size()),
                    std::vector<uint32_t>(vocabulary_.size())};
    for (const uint32_t atom : vocabulary_.atoms()) units.time[atom] = 0;
    for (uint32_t rank = 0; rank < merges_.size(); ++rank) {
      const auto [left, right, result] = merges_[rank];
      if (units.time[left] == kNone || units.time[right] == kNone || units.time[result] != kNone) continue;
      if (!stay_apart(units, left, right, rank)) continue;
      units.time[result] = rank + 1;
      units.left[result] = left;
      units.right[result] = right;
    }
    return units;
  }

  // Whether no pair of a rank below `limit` arises at the border: undo the merges of both units, youngest first, and
  // look at what then meets there. Of two merges of equal rank the left one came first.
  bool stay_apart(const Reachable& units, uint32_t left, uint32_t right, uint32_t limit) const {
    for (;;) {
      if (ranks_.find(left, right) < limit) return false;
      if (units.time[left] > units.time[right]) {
        limit = units.time[left] - 1;
        left = units.right[left];
      } else if (units.time[right]) {
        limit = units.time[right];
        right = units.left[right];
      } else {
        return true;
      }
    }
  }

  // Undoing merges, youngest first, is right if no merge is older than the units it joins. Converted tokenizers list
  // such merges, but most never happen because their result has been made from another pair before.
  bool is_reversible(const Reachable& units) const {
    for (uint32_t rank = 0; rank < merges_.size(); ++rank) {
      const auto [left, right, result] = merges_[rank];
      if (units.time[left] == kNone || units.time[right] == kNone) continue;
      const uint32_t parts = std::max(units.time[left], units.time[right]);
      if (parts > rank && units.time[result] > parts) return false;
    }
    return true;
  }

  // Tables by number. The time of a pair becomes twice the number of the unit that it makes reachable, and one less
  // than that of the next such merge if it makes none.
  void number_units(const Reachable& units) {
    std::vector<uint32_t> number(vocabulary_.size(), kNone);
    for (const uint32_t atom : vocabulary_.atoms()) {
      number[atom] = static_cast<uint32_t>(unit_of_.size());
      unit_of_.push_back(atom);
      parts_.push_back({0, 0});
    }
    atoms_ = static_cast<uint32_t>(unit_of_.size());
    for (uint32_t rank = 0; rank < merges_.size(); ++rank) {
      const uint32_t result = merges_[rank].result;
      if (units.time[result] != rank + 1) continue;
      number[result] = static_cast<uint32_t>(unit_of_.size());
      unit_of_.push_back(result);
      parts_.push_back({number[units.left[result]], number[units.right[result]]});
    }
    std::vector<PairMap::Item> times;
    uint32_t next = atoms_;
    for (uint32_t rank = 0; rank < merges_.size(); ++rank) {
      const auto [left, right, result] = merges_[rank];
      const bool makes = units.time[result] == rank + 1;
      if (number[left] != kNone && number[right] != kNone) {
        times.push_back({number[left], number[right], 2 * next - !makes});
      }
      next += makes;
    }
    times_ = PairMap(times);
    find_candidates(number);
  }

  // For each slot of the trie and each reachable unit, the longest reachable unit that begins it.
  void find_candidates(const std::vector<uint32_t>& number) {
    const Trie& trie = vocabulary_.trie();
    std::vector<uint32_t> candidate(vocabulary_.size(), kNone);
    candidates_.resize(unit_of_.size());
    for (const uint32_t u : trie.sorted()) {
      const uint32_t shorter = trie.shorter(u) == kNone ? kNone : candidate[trie.shorter(u)];
      candidate[u] = number[u] == kNone ? shorter : number[u];
      if (number[u] != kNone) candidates_[number[u]] = {vocabulary_.length(u), shorter};
    }
    candidate_at_.assign(trie.slots(), kNone);
    for (uint32_t slot = 0; slot < trie.slots(); ++slot) {
      if (trie.unit_at(slot) != kNone) candidate_at_[slot] = candidate[trie.unit_at(slot)];
    }
  }

  // stay_apart without a limit, by number. There is no branch but the last: which unit is undone is as good as random.
  LLMTOOL_INLINE bool compatible(uint32_t left, uint32_t right, uint64_t& operations) const {
    uint32_t limit = kNone;
    for (bool apart = true;;) {
      ++operations;
      apart &= times_.find(left, right) >= limit;
      const bool undo_left = left > right;
      const uint32_t younger = undo_left ? left : right;
      if (younger < atoms_) return apart;
      limit = 2 * younger + !undo_left;
      const Parts parts = parts_[younger];
      left = undo_left ? parts.right : left;
      right = undo_left ? right : parts.left;
    }
  }

  void encode_from_left(const uint8_t* p, size_t n, Scratch& scratch, bool whole) const {
    const uint8_t* const end = p + n;
    std::vector<uint32_t>& out = scratch.units;  // numbers, until the end
    uint64_t& operations = scratch.operations;
    Trie::Match match = vocabulary_.trie().longest(p, end);
    operations += match.length;
    if (whole && match.length == n) {
      out.push_back(vocabulary_.trie().unit_at(match.slot));
      return;
    }
    uint32_t number = candidate_at_[match.slot];
    scratch.dead.assign(n / 64 + 1, 0);
    uint64_t* const dead = scratch.dead.data();
    for (size_t position = 0;;) {
      const size_t after = position + candidates_[number].length;
      ++operations;
      if (!(dead[after / 64] >> (after % 64) & 1) && (out.empty() || compatible(out.back(), number, operations))) {
        out.push_back(number);
        if (after == n) break;
        position = after;
        match = vocabulary_.trie().longest(p + position, end);
        operations += match.length;
        number = candidate_at_[match.slot];
        continue;
      }
      number = candidates_[number].shorter;
      // Nothing fits here: the encoding of the bytes so far is unique, so no other way to this position is left.
      while (number == kNone) {
        dead[position / 64] |= 1ull << (position % 64);
        number = out.back();
        out.pop_back();
        position -= candidates_[number].length;
        number = candidates_[number].shorter;
      }
    }
    for (uint32_t& unit : out) unit = unit_of_[unit];
  }

  // Any merge list at all: a heap of (rank, position), O(n log n).
  void encode_by_merging(const uint8_t* p, size_t n, Scratch& scratch, bool whole) const {
    std::vector<uint32_t>& out = scratch.units;
    if (whole) {
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
        if (const uint32_t rank = ranks_.find(at[i], at[j]); rank != kNone) queue.push(uint64_t{rank} << 32 | i);
      }
    };
    for (uint32_t i = 0, before = kNone; i < n; before = i, i = next[i]) {
      const uint32_t length = vocabulary_.symbol_length(p + i, p + n);
      at[i] = vocabulary_.symbol_unit(p + i, length), next[i] = i + length, prev[i] = before;
    }
    for (uint32_t i = 0; i < n; i = next[i]) push(i);
    while (!queue.empty()) {
      ++scratch.operations;
      const uint32_t rank = static_cast<uint32_t>(queue.top() >> 32), i = static_cast<uint32_t>(queue.top());
      queue.pop();
      const uint32_t j = next[i];
      if (at[i] == kNone || j >= n || ranks_.find(at[i], at[j]) != rank) continue;  // merged away since
      at[i] = merges_[rank].result;
      at[j] = kNone;
      next[i] = next[j];
      if (next[i] < n) prev[next[i]] = i;
      push(i);
      if (i) push(prev[i]);
    }
    for (uint32_t i = 0; i < n; i = next[i]) out.push_back(at[i]);
  }

  const Vocabulary& vocabulary_;
  std::vector<Merge> merges_;
  bool ignore_merges_ = false;
  PairMap ranks_;  // by unit
  bool reversible_ = false;
  uint32_t atoms_ = 0;  // numbers below are bytes or characters
  // By number.
  PairMap times_;
  std::vector<uint32_t> unit_of_;
  std::vector<Parts> parts_;
  std::vector<Candidate> candidates_;
  std::vector<uint32_t> candidate_at_;  // by slot of the trie
};

}  // namespace llmtool
