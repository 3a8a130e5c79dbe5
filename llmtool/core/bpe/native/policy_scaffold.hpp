// Scaffold-BPE training: a unit that is rarer than the queue's head once it has been merged into another one leaves
// the vocabulary, and comes back if its own turn comes again (Lian et al., arXiv 2404.17808, Algorithm 1).
#pragma once
#include "train.hpp"

namespace llmtool {

class ScaffoldPolicy {
 public:
  explicit ScaffoldPolicy(uint32_t first) : first_(first), units_(first, Unit{0, 0, false}) {}

  // Frequencies in the queue are upper bounds: an entry is renewed when it comes to the top and its unit has lost some.
  uint64_t head() {
    while (!queue_.empty()) {
      const Entry top = queue_.front();
      const Unit& unit = units_[top.unit];
      if (unit.marked && unit.frequency == top.frequency) return top.frequency;
      pop();
      if (unit.marked && unit.frequency) push(top.unit);
    }
    return 0;
  }

  void promote() {
    units_[queue_.front().unit].marked = false;
    pop();
    ++promotions_;
  }

  template <class HeadFrequency>
  uint64_t merged(uint32_t left, uint32_t right, uint64_t made, HeadFrequency&& head_frequency) {
    units_.push_back({made, uint64_t{left} << 32 | right, false});
    lose(left, made);
    lose(right, made);
    uint64_t marked = mark(left, head_frequency);
    if (right != left) marked += mark(right, head_frequency);
    marks_ += marked;
    return marked;
  }

  void finish(Trained& trained) const {
    for (const Unit& unit : units_) trained.scaffold.push_back(unit.marked);
    trained.marks = marks_;
    trained.promotions = promotions_;
  }

 private:
  struct Unit {
    uint64_t frequency;  // how often it occurs by itself; not kept for the first units, which always stay
    uint64_t pair;       // that formed it
    bool marked;
  };
  // At equal frequencies the unit whose pair is the smallest goes first; pairs have no equals.
  struct Entry {
    uint64_t frequency, pair;
    uint32_t unit;
    bool operator<(const Entry& other) const {
      return frequency != other.frequency ? frequency < other.frequency : pair > other.pair;
    }
  };

  void lose(uint32_t unit, uint64_t times) {
    if (unit >= first_) units_[unit].frequency -= times;
  }

  template <class HeadFrequency>
  uint64_t mark(uint32_t number, HeadFrequency&& head_frequency) {
    Unit& unit = units_[number];
    if (number < first_ || unit.marked || unit.frequency >= head_frequency()) return 0;
    unit.marked = true;
    if (unit.frequency) push(number);
    return 1;
  }

  void push(uint32_t number) {
    queue_.push_back({units_[number].frequency, units_[number].pair, number});
    std::push_heap(queue_.begin(), queue_.end());
  }
  void pop() {
    std::pop_heap(queue_.begin(), queue_.end());
    queue_.pop_back();
  }

  uint32_t first_;  // units there are before training: bytes, or a whole tokenizer's
  std::vector<Unit> units_;
  std::vector<Entry> queue_;
  uint64_t marks_ = 0, promotions_ = 0;
};

}  // namespace llmtool
