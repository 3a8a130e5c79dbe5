// LBPE encoding of one piece: the longest unit anywhere, leftmost of equals, then the same on both sides of it.
//
// That is: go through all places where a unit matches, longest first, leftmost of equals, and accept those that
// overlap nothing accepted. Each start is filed under the length of its longest match only; where that collides,
// the start is filed again under its longest unit that still fits.
#pragma once
#include <queue>

#include "merge.hpp"

namespace llmtool {

class LbpePolicy {
 public:
  // `order`: the lowest is taken first instead, then the leftmost, then the longest; empty means longest first.
  LbpePolicy(const Vocabulary& vocabulary, std::vector<uint32_t> order, bool ignore_merges)
      : vocabulary_(vocabulary), order_(std::move(order)), ignore_merges_(ignore_merges) {
    if (!order_.empty() && order_.size() != vocabulary.size()) {
      throw std::invalid_argument("order: not one for each unit");
    }
  }

  void encode_run(const uint8_t* p, size_t n, Scratch& scratch) const { encode(p, n, scratch); }
  bool takes_whole_pieces() const { return false; }

  // Replaces scratch.units by the encoding of [p, p + n), n > 0.
  void encode(const uint8_t* p, size_t n, Scratch& scratch) const {
    scratch.units.clear();
    const Trie::Match whole = vocabulary_.trie().longest(p, p + n);
    scratch.operations += whole.length;
    if (whole.length == n && (order_.empty() || ignore_merges_ || n == 1)) {
      scratch.units.push_back(vocabulary_.trie().unit_at(whole.slot));
    } else if (!order_.empty()) {
      encode_in_order(p, n, scratch);
    } else if (n <= kShort) {
      encode_short(p, static_cast<unsigned>(n), whole, scratch);
    } else {
      encode_long(p, static_cast<uint32_t>(n), scratch);
    }
  }

 private:
  static constexpr size_t kShort = 64;  // positions that fit one word

  static uint64_t bits(unsigned n) { return n >= 64 ? ~0ull : (1ull << n) - 1; }

  void encode_short(const uint8_t* p, unsigned n, const Trie::Match& first, Scratch& scratch) const {
    uint32_t unit[kShort];
    uint8_t length[kShort];
    uint64_t starts[kShort + 1];  // by length, a bit for each start
    std::memset(starts, 0, (n + 1) * sizeof starts[0]);
    unsigned longest = 1;
    Trie::Match match = first;
    for (unsigned i = 0;;) {
      unit[i] = vocabulary_.trie().unit_at(match.slot);
      length[i] = static_cast<uint8_t>(match.length);
      starts[match.length] |= 1ull << i;
      longest = std::max(longest, match.length);
      if (++i == n) break;
      match = vocabulary_.trie().longest(p + i, p + n);
      scratch.operations += match.length;
    }
    uint64_t taken = 0, accepted = 0;
    for (unsigned l = longest; l > 1; --l) {
      while (starts[l]) {
        const unsigned i = static_cast<unsigned>(__builtin_ctzll(starts[l]));
        starts[l] &= starts[l] - 1;
        ++scratch.operations;
        if (taken >> i & 1) continue;
        const uint64_t span = bits(l) << i;
        if (!(taken & span)) {
          taken |= span;
          accepted |= 1ull << i;
          continue;
        }
        const unsigned room = static_cast<unsigned>(__builtin_ctzll(taken >> i));
        do {
          unit[i] = vocabulary_.trie().shorter(unit[i]);
          length[i] = static_cast<uint8_t>(vocabulary_.length(unit[i]));
          ++scratch.operations;
        } while (length[i] > room);
        starts[length[i]] |= 1ull << i;
      }
    }
    for (uint64_t left = accepted | (bits(n) & ~taken); left; left &= left - 1) {
      const unsigned i = static_cast<unsigned>(__builtin_ctzll(left));
      scratch.units.push_back(accepted >> i & 1 ? unit[i] : vocabulary_.byte_unit(p[i]));
    }
  }

  // The same with lists of starts, which stay sorted by sorting what was filed again, one length at a time.
  void encode_long(const uint8_t* p, uint32_t n, Scratch& scratch) const {
    std::vector<uint32_t>&unit = scratch.at, &begin = scratch.next;  // begin: of the accepted unit over a position
    std::vector<std::vector<uint32_t>>& starts = scratch.by_length;
    unit.resize(n);
    begin.assign(n, kNone);
    starts.resize(std::max<size_t>(starts.size(), vocabulary_.max_length() + size_t{1}));
    uint32_t longest = 1;
    for (uint32_t i = 0; i < n; ++i) {
      const Trie::Match match = vocabulary_.trie().longest(p + i, p + n);
      scratch.operations += match.length;
      unit[i] = vocabulary_.trie().unit_at(match.slot);
      if (match.length > 1) starts[match.length].push_back(i);
      longest = std::max(longest, match.length);
    }
    for (uint32_t l = longest; l > 1; --l) {
      if (!std::is_sorted(starts[l].begin(), starts[l].end())) std::sort(starts[l].begin(), starts[l].end());
      for (const uint32_t i : starts[l]) {
        ++scratch.operations;
        if (begin[i] != kNone) continue;
        // What is accepted is at least as long, so it covers an end of whatever it overlaps.
        const uint32_t blocker = begin[i + l - 1];
        if (blocker == kNone) {
          std::fill_n(begin.begin() + i, l, i);
          scratch.operations += l;
          continue;
        }
        do {
          unit[i] = vocabulary_.trie().shorter(unit[i]);
          ++scratch.operations;
        } while (vocabulary_.length(unit[i]) > blocker - i);
        if (vocabulary_.length(unit[i]) > 1) starts[vocabulary_.length(unit[i])].push_back(i);
      }
      starts[l].clear();
    }
    for (uint32_t i = 0; i < n;) {
      scratch.units.push_back(begin[i] == i ? unit[i] : vocabulary_.byte_unit(p[i]));
      i += begin[i] == i ? vocabulary_.length(unit[i]) : 1;
    }
  }

  // By the caller's order, of which nothing is known. A queue holds one match for each start: the first in order of
  // those that fit. One that has come to overlap is filed again under the first of those that still fit.
  void encode_in_order(const uint8_t* p, uint32_t n, Scratch& scratch) const {
    struct Place {
      uint32_t order, start, unit;
      bool operator<(const Place& other) const {  // a priority_queue hands out the greatest
        return order != other.order ? order > other.order : start > other.start;
      }
    };
    std::vector<uint32_t>& longest = scratch.at;
    longest.resize(n);
    const auto first_that_fits = [&](uint32_t start, size_t room) {
      uint32_t best = kNone;
      for (uint32_t unit = longest[start]; unit != kNone; unit = vocabulary_.trie().shorter(unit)) {
        ++scratch.operations;
        const bool fits = vocabulary_.length(unit) <= room;
        if (fits && (best == kNone || order_[unit] < order_[best])) best = unit;
      }
      return Place{order_[best], start, best};
    };
    std::vector<Place> places;
    places.reserve(n);
    for (uint32_t i = 0; i < n; ++i) {
      const Trie::Match match = vocabulary_.trie().longest(p + i, p + n);
      scratch.operations += match.length;
      longest[i] = vocabulary_.trie().unit_at(match.slot);
      places.push_back(first_that_fits(i, n - i));
    }
    std::priority_queue<Place> queue(std::less<Place>(), std::move(places));
    std::vector<uint32_t>& accepted = scratch.next;
    accepted.assign(n, kNone);
    std::vector<bool> taken(n);
    while (!queue.empty()) {
      const Place place = queue.top();
      queue.pop();
      const auto first = taken.begin() + place.start, last = first + vocabulary_.length(place.unit);
      scratch.operations += static_cast<uint64_t>(last - first);
      const auto blocker = std::find(first, last, true);
      if (blocker == last) {
        std::fill(first, last, true);
        accepted[place.start] = place.unit;
      } else if (blocker != first) {
        queue.push(first_that_fits(place.start, static_cast<size_t>(blocker - first)));
      }
    }
    for (uint32_t i = 0; i < n; i += vocabulary_.length(accepted[i])) scratch.units.push_back(accepted[i]);
  }

  const Vocabulary& vocabulary_;
  const std::vector<uint32_t> order_;
  const bool ignore_merges_;
};

}  // namespace llmtool
