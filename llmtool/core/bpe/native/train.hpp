// Byte-pair training: merge the most frequent pair of neighbours, again and again.
//
// All distinct pieces lie in one array of slots, a slot a byte. A unit is written into the first and the last slot
// that it covers, so its neighbours on both sides are one load away and a merge touches nothing but the places where
// it happens. Pairs that arise in a merge all contain the new unit: their counts are gathered by the neighbour in
// plain arrays, and their places are complete from the start. A pair only ever loses places afterwards, so they are
// checked when they are used, and frequencies in the queue are upper bounds.
//
// What grows with the text (slots, places, pairs, the queue, what a merge finds) is memory only up to the budget; beyond
// it it lies in files (memory.hpp). In memory are a few numbers for each unit and each count that differs.
#pragma once
#include <array>
#include <chrono>
#include <functional>
#include <unordered_map>

#include "count.hpp"

namespace llmtool {

struct Trained {
  std::vector<uint32_t> merges;       // (left, right, result) in rank order
  std::vector<uint64_t> frequencies;  // of the pair when it was merged
  std::vector<uint8_t> scaffold;      // by unit: whether it ended as a scaffold
  uint64_t marks = 0, promotions = 0;
};

// The distinct pieces of a corpus, as units of one byte and more: the bytes themselves, or what a tokenizer made of them.
class TrainingCorpus {
 public:
  struct Slot {
    uint32_t unit;
    uint32_t weight;  // index of the piece's count: distinct counts are few enough for the first-level cache
  };
  static constexpr uint32_t kBorder = kNone;     // between two pieces
  static constexpr uint32_t kCovered = kNone - 1;  // the right part of a merge began here

  // lengths: bytes of each unit. cut(p, n, units) writes the units of a piece, kBorder where no pair may reach over.
  template <class Cut>
  TrainingCorpus(PieceCounter& counter, std::vector<uint32_t> lengths, Cut&& cut)
      : lengths_(std::move(lengths)), slots_(counter.memory()) {
    std::unordered_map<uint64_t, uint32_t> index_of;
    std::vector<uint32_t> units;
    slots_.reserve(counter.distinct_bytes() + 1);
    slots_.push_back({kBorder, 0});
    counter.for_each(false, [&](const uint8_t* p, size_t n, uint64_t count) {
      if (n < 2) return;
      units.clear();
      cut(p, n, units);
      if (units.size() < 2) return;
      if (slots_.size() + n >= kCovered) {
        throw std::length_error("the distinct pieces have over 4 GB: split documents into smaller pieces");
      }
      const auto [found, is_new] = index_of.try_emplace(count, static_cast<uint32_t>(weights_.size()));
      if (is_new) weights_.push_back(count);
      for (const uint32_t unit : units) {
        const uint32_t length = unit == kBorder ? 1 : lengths_[unit];
        slots_.push_back({unit, found->second});
        for (uint32_t i = 2; i < length; ++i) slots_.push_back({kCovered, 0});
        if (length > 1) slots_.push_back({unit, found->second});
      }
      slots_.push_back({kBorder, 0});
    });
  }

  // From the bytes on.
  TrainingCorpus(PieceCounter& counter, const std::vector<uint8_t>& byte_order)
      : TrainingCorpus(counter, std::vector<uint32_t>(256, 1),
                       [unit_of = inverse(byte_order)](const uint8_t* p, size_t n, std::vector<uint32_t>& units) {
                         units.resize(n);
                         for (size_t i = 0; i < n; ++i) units[i] = unit_of[p[i]];
                       }) {}

  const std::vector<uint32_t>& lengths() const { return lengths_; }
  Memory memory() const { return slots_.get_allocator().memory(); }
  size_t size() const { return slots_.size(); }
  Slot& operator[](size_t i) { return slots_[i]; }
  uint64_t weight(const Slot& slot) const { return weights_[slot.weight]; }

 private:
  static std::vector<uint32_t> inverse(const std::vector<uint8_t>& byte_order) {
    std::vector<uint32_t> unit_of(256);
    for (uint32_t u = 0; u < 256; ++u) unit_of[byte_order[u]] = u;
    return unit_of;
  }

  std::vector<uint32_t> lengths_;
  Bounded<Slot> slots_;
  std::vector<uint64_t> weights_;
};

// What may be made: asked once of each pair, when it comes to the head of the queue.
class Filter {
 public:
  using Allows = std::function<bool(const std::string&)>;
  Filter() = default;
  // spelled: the bytes of each unit there is.
  Filter(std::vector<std::string> spelled, Allows allows) : spelled_(std::move(spelled)), allows_(std::move(allows)) {}

  bool allows(uint32_t left, uint32_t right) { return !allows_ || allows_(spelled_[left] + spelled_[right]); }
  void made(uint32_t left, uint32_t right) {
    if (allows_) spelled_.push_back(spelled_[left] + spelled_[right]);
  }

 private:
  std::vector<std::string> spelled_;
  Allows allows_;
};

// (left, right) -> frequency and places, open addressing.
class PairTable {
 public:
  struct Pair {
    uint64_t key;
    uint64_t frequency;
    uint32_t first, size;  // of its places
  };
  explicit PairTable(const Memory& memory) : pairs_(1u << 12, Pair{kFree, 0, 0, 0}, memory) {}

  static uint64_t key_of(uint32_t left, uint32_t right) { return static_cast<uint64_t>(left) << 32 | right; }

  // Null if there is no such pair.
  Pair* find(uint64_t key) {
    for (size_t i = key * kMultiplier >> shift_;; i = (i + 1) & (pairs_.size() - 1)) {
      if (pairs_[i].key == key) return &pairs_[i];
      if (pairs_[i].key == kFree) return nullptr;
    }
  }

  void prefetch_key(uint64_t key) const { prefetch(&pairs_[key * kMultiplier >> shift_]); }

  template <class Visit>
  void for_each(Visit&& visit) {
    for (Pair& pair : pairs_) {
      if (pair.key != kFree) visit(pair);
    }
  }

  void insert(const Pair& pair) {
    if (++used_ * 3 > pairs_.size() * 2) grow();
    place(pair);
  }

 private:
  static constexpr uint64_t kFree = ~0ull, kMultiplier = 0x9E3779B97F4A7C15ull;

  void place(const Pair& pair) {
    size_t i = pair.key * kMultiplier >> shift_;
    while (pairs_[i].key != kFree) i = (i + 1) & (pairs_.size() - 1);
    pairs_[i] = pair;
  }

  // Pairs without a place left are dropped.
  void grow() {
    Bounded<Pair> old = std::move(pairs_);
    used_ = 1 + static_cast<size_t>(std::count_if(old.begin(), old.end(), [](const Pair& p) { return is_live(p); }));
    const size_t size = power_of_two_at_least(used_ * 3);
    shift_ = 64 - static_cast<unsigned>(__builtin_ctzll(size));
    pairs_.assign(size, {kFree, 0, 0, 0});
    for (const Pair& pair : old) {
      if (is_live(pair)) place(pair);
    }
  }
  static bool is_live(const Pair& pair) { return pair.key != kFree && pair.frequency; }

  Bounded<Pair> pairs_;
  size_t used_ = 0;
  unsigned shift_ = 64 - 12;
};

// The corpus, its pairs and the queue of pairs by frequency.
class PairIndex {
 public:
  struct Head {
    uint64_t frequency;  // 0: there is no pair
    uint32_t left, right;
  };

  // A pair of more than `longest` bytes, or that the filter refuses, is kept up to date like any other, and never at
  // the head.
  PairIndex(TrainingCorpus corpus, uint64_t longest, Filter filter)
      : corpus_(std::move(corpus)),
        longest_(longest),
        filter_(std::move(filter)),
        lengths_(corpus_.lengths()),
        pairs_(corpus_.memory()),
        places_(corpus_.memory()),
        queue_(corpus_.memory()),
        left_events_(corpus_.memory()),
        right_events_(corpus_.memory()) {
    left_.resize(lengths_.size());
    right_.resize(lengths_.size());
    // Room that nothing touches costs nothing, growing by copies does; a file's blocks would be taken at once.
    if (places_.get_allocator().in_memory(2 * corpus_.size())) places_.reserve(2 * corpus_.size());
    add_first_pairs();
  }

  // The most frequent pair, of equals the one with the smallest units.
  Head head() {
    while (!queue_.empty()) {
      const Entry top = queue_.front();
      const PairTable::Pair* const pair = pairs_.find(top.key);
      const bool current = pair && pair->frequency == top.frequency;
      if (current && is_allowed(top.key)) {
        return {top.frequency, static_cast<uint32_t>(top.key >> 32), static_cast<uint32_t>(top.key)};
      }
      std::pop_heap(queue_.begin(), queue_.end());
      queue_.pop_back();
      if (!current && pair && pair->frequency) push({pair->frequency, top.key});  // a pair has one entry at a time
    }
    return {0, 0, 0};
  }

  // Replaces the pair everywhere by a new unit; returns how often, counted over the whole text.
  //
  // The result is always new (or refused by the filter: an extended tokenizer may hold tokens that no merge of its own
  // makes): where two units spell an older unit t side by side, t's own merge had already been made
  // in the same bytes, because what happens inside a stretch that no merge leaves does not depend on what is around.
  uint64_t merge(uint32_t left, uint32_t right) {
    const uint32_t made_unit = static_cast<uint32_t>(lengths_.size());
    const uint32_t left_length = lengths_[left], right_length = lengths_[right];
    lengths_.push_back(left_length + right_length);
    filter_.made(left, right);
    left_.emplace_back();
    right_.emplace_back();
    const PairTable::Pair pair = *pairs_.find(PairTable::key_of(left, right));
    uint64_t made = 0;
    constexpr uint32_t kAhead = 16;
    for (uint32_t k = pair.first; k < pair.first + pair.size; ++k) {
      if (k + kAhead < pair.first + pair.size) prefetch(&corpus_[places_[k + kAhead]]);
      const uint32_t begin = places_[k], middle = begin + left_length, end = middle + right_length;
      if (corpus_[begin].unit != left || corpus_[middle].unit != right) continue;
      const uint64_t weight = corpus_.weight(corpus_[begin]);
      made += weight;
      const uint32_t before = corpus_[begin - 1].unit, after = corpus_[end].unit;
      if (before != TrainingCorpus::kBorder) gather(left_, left_events_, before, begin - lengths_[before], weight);
      if (after != TrainingCorpus::kBorder) gather(right_, right_events_, after, begin, weight);
      corpus_[begin].unit = made_unit;
      corpus_[middle].unit = TrainingCorpus::kCovered;
      corpus_[end - 1].unit = made_unit;
    }
    for (const uint32_t before : left_events_.touched) add_pair(PairTable::key_of(before, made_unit), left_[before]);
    for (const uint32_t after : right_events_.touched) add_pair(PairTable::key_of(made_unit, after), right_[after]);
    for (const uint32_t before : left_events_.touched) lose(PairTable::key_of(before, left), left_[before].weight);
    for (const uint32_t after : right_events_.touched) lose(PairTable::key_of(right, after), right_[after].weight);
    pairs_.find(PairTable::key_of(left, right))->frequency = 0;
    for (const uint32_t before : left_events_.touched) enqueue(PairTable::key_of(before, made_unit));
    for (const uint32_t after : right_events_.touched) enqueue(PairTable::key_of(made_unit, after));
    settle(left_, left_events_);
    settle(right_, right_events_);
    return made;
  }

 private:
  struct Entry {
    uint64_t frequency, key;
    bool operator<(const Entry& other) const {
      return frequency != other.frequency ? frequency < other.frequency : key > other.key;
    }
  };
  // What a merge finds on one side of it, by the neighbouring unit.
  struct Neighbour {
    uint64_t weight = 0;
    uint32_t places = 0, next = 0;
  };
  struct Events {
    explicit Events(const Memory& memory) : places(memory) {}
    std::vector<uint32_t> touched;
    Bounded<std::pair<uint32_t, uint32_t>> places;  // (neighbour, place)
  };

  LLMTOOL_INLINE static void gather(std::vector<Neighbour>& side, Events& events, uint32_t unit, uint32_t place,
                                    uint64_t weight) {
    Neighbour& neighbour = side[unit];
    if (!neighbour.places++) events.touched.push_back(unit);
    neighbour.weight += weight;
    events.places.emplace_back(unit, place);
  }

  void push(const Entry& entry) {
    queue_.push_back(entry);
    std::push_heap(queue_.begin(), queue_.end());
  }

  uint32_t allocate(size_t places) {
    const size_t first = places_.size();
    if (first + places >= kNone) throw std::length_error("training needs over 4 billion places of pairs");
    places_.resize(first + places);
    return static_cast<uint32_t>(first);
  }

  void add_pair(uint64_t key, Neighbour& neighbour) {
    neighbour.next = allocate(neighbour.places);
    pairs_.insert({key, neighbour.weight, neighbour.next, neighbour.places});
  }

  void lose(uint64_t key, uint64_t weight) {
    if (PairTable::Pair* const pair = pairs_.find(key)) pair->frequency -= weight;
  }

  void enqueue(uint64_t key) {
    if (!fits(key)) return;
    if (const uint64_t frequency = pairs_.find(key)->frequency) push({frequency, key});
  }

  // Writes the places of the new pairs, in the order of the text, and forgets the neighbours.
  void settle(std::vector<Neighbour>& side, Events& events) {
    for (const auto& [unit, place] : events.places) places_[side[unit].next++] = place;
    for (const uint32_t unit : events.touched) side[unit] = {};
    events.touched.clear();
    events.places.clear();
  }

  bool is_allowed(uint64_t key) {
    if (key == allowed_) return true;
    if (!filter_.allows(static_cast<uint32_t>(key >> 32), static_cast<uint32_t>(key))) return false;
    allowed_ = key;
    return true;
  }

  // Visits (key, place) of every pair of neighbours, some pairs after its line of the table was asked for.
  template <class Visit>
  void for_each_first_pair(Visit&& visit) {
    constexpr uint32_t kAhead = 32;
    std::array<std::pair<uint64_t, uint32_t>, kAhead> waiting;
    uint32_t seen = 0;
    for (uint32_t i = 1; i < corpus_.size();) {
      const uint32_t a = corpus_[i].unit;
      const uint32_t next = i + (a == TrainingCorpus::kBorder ? 1 : lengths_[a]);
      if (a != TrainingCorpus::kBorder && corpus_[next].unit != TrainingCorpus::kBorder) {
        auto& pair = waiting[seen % kAhead];
        if (seen >= kAhead) visit(pair.first, pair.second);
        pair = {PairTable::key_of(a, corpus_[next].unit), i};
        pairs_.prefetch_key(pair.first);
        ++seen;
      }
      i = next;
    }
    for (uint32_t k = seen - std::min(seen, kAhead); k < seen; ++k) {
      visit(waiting[k % kAhead].first, waiting[k % kAhead].second);
    }
  }

  void add_first_pairs() {
    for_each_first_pair([&](uint64_t key, uint32_t i) {
      const uint64_t weight = corpus_.weight(corpus_[i]);
      if (PairTable::Pair* const pair = pairs_.find(key)) {
        pair->frequency += weight;
        ++pair->size;
      } else {
        pairs_.insert({key, weight, 0, 1});
      }
    });
    pairs_.for_each([&](PairTable::Pair& pair) {
      pair.first = allocate(pair.size);
      if (fits(pair.key)) queue_.push_back({pair.frequency, pair.key});
    });
    std::make_heap(queue_.begin(), queue_.end());
    for_each_first_pair([&](uint64_t key, uint32_t i) { places_[pairs_.find(key)->first++] = i; });
    pairs_.for_each([](PairTable::Pair& pair) { pair.first -= pair.size; });
  }

  bool fits(uint64_t key) const {
    return uint64_t{lengths_[key >> 32]} + lengths_[static_cast<uint32_t>(key)] <= longest_;
  }

  TrainingCorpus corpus_;
  uint64_t longest_;  // token, in bytes
  Filter filter_;
  uint64_t allowed_ = ~0ull;  // the pair that the filter was last asked about, if it may be made
  std::vector<uint32_t> lengths_;  // of each unit, in bytes
  PairTable pairs_;
  Bounded<uint32_t> places_;  // where each pair begins, the places of one pair side by side
  Bounded<Entry> queue_;
  std::vector<Neighbour> left_, right_;
  Events left_events_, right_events_;
};

// Plain BPE. A training policy may have entries of its own in the queue and may take units out of the vocabulary.
class BpePolicy {
 public:
  explicit BpePolicy(uint32_t first) : first_(first) {}  // units there are before training
  // The highest frequency of its entries, 0 without any.
  uint64_t head() { return 0; }
  // Takes that entry: one more normal unit.
  void promote() {}
  // After a merge: how many of its parts leave the vocabulary. `head` gives the frequency of the queue's head.
  template <class HeadFrequency>
  uint64_t merged(uint32_t, uint32_t, uint64_t, HeadFrequency&&) {
    return 0;
  }
  void finish(Trained& trained) const { trained.scaffold.assign(first_ + trained.frequencies.size(), 0); }

 private:
  uint32_t first_;
};

// What ends training: so many normal units, those there are at the start included, or a head that is too rare.
struct Limits {
  uint64_t vocab_size, min_frequency, longest;
};

// `progress` gets the number of normal units a few times a second, and what it throws ends the training.
template <class Policy>
Trained train(TrainingCorpus corpus, const Limits& limits, const std::function<void(uint64_t)>& progress,
              Filter filter = {}) {
  using Clock = std::chrono::steady_clock;
  constexpr auto kInterval = std::chrono::milliseconds(200);
  const auto first = static_cast<uint32_t>(corpus.lengths().size());
  Policy policy(first);
  PairIndex index(std::move(corpus), limits.longest, std::move(filter));
  Trained trained;
  uint64_t normal = first;
  Clock::time_point last{};  // the first report comes at once
  while (normal < limits.vocab_size) {
    if (progress && Clock::now() - last >= kInterval) {
      progress(normal);
      last = Clock::now();
    }
    const PairIndex::Head pair = index.head();
    const uint64_t other = policy.head();
    if (std::max(pair.frequency, other) < std::max<uint64_t>(limits.min_frequency, 1)) break;
    ++normal;
    if (other > pair.frequency) {
      policy.promote();
      continue;
    }
    const auto result = static_cast<uint32_t>(first + trained.frequencies.size());
    trained.merges.insert(trained.merges.end(), {pair.left, pair.right, result});
    trained.frequencies.push_back(pair.frequency);
    const uint64_t made = index.merge(pair.left, pair.right);
    normal -= policy.merged(pair.left, pair.right, made, [&] { return std::max(index.head().frequency, policy.head()); });
  }
  policy.finish(trained);
  return trained;
}

}  // namespace llmtool
