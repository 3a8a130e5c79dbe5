// What one thread does with documents: scan, look up, encode what is new, write ids.
#pragma once
#include "cache.hpp"
#include "policy_lbpe.hpp"
#include "scanners.hpp"

namespace llmtool {

// A batch of documents, one after another, document i ending at ends[i].
struct Documents {
  const uint8_t* text;
  const std::vector<uint64_t>& ends;

  uint64_t begin_of(size_t i) const { return i ? ends[i - 1] : 0; }
};

// Ids are written up to this many places beyond their end: whole cache entries are copied.
inline constexpr size_t kOutputSlack = 8;

// Cuts one piece after the other, each met once.
class PieceCutter {
 public:
  virtual ~PieceCutter() = default;
  // The units of a piece, those of unknown symbols included, until the next call.
  virtual const std::vector<uint32_t>& units_of(const uint8_t* p, size_t n) = 0;
};

// One thread's caches and working memory.
template <class Policy>
class EncodingThread final : public PieceCutter {
 public:
  EncodingThread(const Vocabulary& vocabulary, const Policy& policy, const CacheSizes& sizes)
      : vocabulary_(vocabulary),
        policy_(policy),
        short_(sizes.log2_short, sizes.log2_first),
        medium_(sizes.log2_medium, sizes.log2_first),
        long_(sizes.log2_long, sizes.long_pool),
        max_pool_(sizes.pool) {}

  // Encodes documents [first, last) to `out`, which has room for an id a byte and kOutputSlack; id_ends[i] becomes
  // the end of document i, counted from `out`. Returns the end of the ids.
  template <class Scanner>
  uint32_t* encode(const Documents& documents, size_t first, size_t last, uint32_t* const out, uint64_t* id_ends) {
    const uint8_t* const readable_end = documents.text + (documents.ends.empty() ? 0 : documents.ends.back());
    const uint8_t* p = documents.text + documents.begin_of(first);
    size_t scanned = first, written = first;
    Text text{documents.text + (first < last ? documents.ends[first] : 0), readable_end, p};
    uint32_t* to = out;
    Item items[kBatch];
    while (written < last) {
      if (short_.is_full()) short_.grow();
      if (medium_.is_full()) medium_.grow();
      // Scan ahead, so that the cache lines of a whole batch are on their way at once.
      unsigned count = 0;
      while (count < kBatch && scanned < last) {
        Item& item = items[count++];
        item.piece = p;
        if (LLMTOOL_UNLIKELY(p == text.end)) {
          item.length = kDocumentEnd;
          text.begin = p;
          if (++scanned < last) text.end = documents.text + documents.ends[scanned];
          continue;
        }
        p = Scanner::next(p, text);
        item.length = static_cast<size_t>(p - item.piece);
        if (LLMTOOL_LIKELY(item.length <= kMaxShort)) {
          item.short_key = short_key(item.piece, item.length, readable_end);
          item.short_pair = short_.pair_of(item.short_key);
          prefetch(item.short_pair);
        } else if (item.length <= kMaxMedium) {
          item.medium_key = medium_key(item.piece, item.length, readable_end);
          item.medium_pair = medium_.pair_of(item.medium_key);
          prefetch(item.medium_pair);
          prefetch(item.medium_pair + 1);
        }
      }
      for (unsigned i = 0; i < count; ++i) {
        const Item& item = items[i];
        if (LLMTOOL_LIKELY(item.length - 1 < kMaxShort)) {
          to = write(short_, item.short_pair, item.short_key, item, to);
        } else if (item.length == kDocumentEnd) {
          id_ends[written++] = static_cast<uint64_t>(to - out);
        } else if (item.length <= kMaxMedium) {
          to = write(medium_, item.medium_pair, item.medium_key, item, to);
        } else {
          to = write_long(item, to);
        }
      }
    }
    return to;
  }

  const std::vector<uint32_t>& units_of(const uint8_t* p, size_t n) override {
    Item item;
    item.piece = p;
    item.length = n;
    cut(item);
    return scratch_.units;
  }

  uint64_t operations() const { return scratch_.operations; }

 private:
  static constexpr unsigned kBatch = 32;
  static constexpr size_t kDocumentEnd = 0;
  static constexpr uint32_t kPooled = 1u << 31;

  struct Item {
    const uint8_t* piece;
    size_t length;  // or kDocumentEnd
    union {
      ShortKey short_key;
      MediumKey medium_key;
    };
    union {
      ShortCache::Entry* short_pair;
      MediumCache::Entry* medium_pair;
    };
  };

  template <class Cache, class Entry, class Key>
  LLMTOOL_INLINE uint32_t* write(Cache& cache, Entry* pair, const Key& key, const Item& item, uint32_t* to) {
    Entry* const entry = Cache::find(pair, key);
    if (LLMTOOL_UNLIKELY(!entry)) return write_new(cache, pair, key, item, to);
    std::memcpy(to, entry->ids, sizeof entry->ids);
    const uint32_t count = entry->count();
    if (LLMTOOL_LIKELY(!(count & kPooled))) return to + count;
    std::memcpy(to, &pool_[entry->ids[0]], (count & ~kPooled) * sizeof *to);
    return to + (count & ~kPooled);
  }

  template <class Cache, class Entry, class Key>
  LLMTOOL_NOINLINE uint32_t* write_new(Cache& cache, Entry* pair, const Key& key, const Item& item, uint32_t* to) {
    const std::vector<uint32_t>& ids = encode_piece(item);
    constexpr size_t kInline = sizeof pair->ids / sizeof pair->ids[0] - 1;
    if (ids.size() > kInline && pool_.size() + ids.size() > max_pool_) {
      pool_.clear();
      short_.clear();
      medium_.clear();
    }
    Entry* const entry = cache.insert(pair, key);
    entry->count() = static_cast<uint32_t>(ids.size());
    if (ids.size() <= kInline) {
      std::copy(ids.begin(), ids.end(), entry->ids);
    } else {
      entry->count() |= kPooled;
      entry->ids[0] = static_cast<uint32_t>(pool_.size());
      pool_.insert(pool_.end(), ids.begin(), ids.end());
    }
    return std::copy(ids.begin(), ids.end(), to);
  }

  LLMTOOL_NOINLINE uint32_t* write_long(const Item& item, uint32_t* to) {
    if (item.length > kMaxLong) {  // written where it belongs: each copy of a long result is memory to fault in
      cut(item);
      return vocabulary_.emit(scratch_.units, to);
    }
    const uint64_t hash = hash_bytes(item.piece, item.length);
    const LongCache::Ids known = long_.find(item.piece, item.length, hash);
    if (known.data) return std::copy(known.data, known.data + known.size, to);
    const std::vector<uint32_t>& ids = encode_piece(item);
    long_.insert(item.piece, item.length, hash, ids);
    return std::copy(ids.begin(), ids.end(), to);
  }

  void cut(const Item& item) {
    if (item.length >= kNone) throw std::length_error("a piece of over 4 GB");
    scratch_.units.reserve(item.length);  // or a long result would be copied each time that its room doubles
    if (LLMTOOL_LIKELY(vocabulary_.complete()) || !cut_at_unknown(item.piece, item.length)) {
      policy_.encode(item.piece, item.length, scratch_);
    }
  }

  // False if all symbols are known. Else scratch_.units becomes what lies between the unknown ones and what they become.
  bool cut_at_unknown(const uint8_t* p, size_t n) {
    const uint8_t* const end = p + n;
    const auto unit_of = [&](const uint8_t* at, uint32_t length) {
      const uint32_t unit = vocabulary_.symbol_unit(at, length);
      return unit != kNone && vocabulary_.is_known(unit);
    };
    const uint8_t* at = p;
    for (uint32_t length; at < end && unit_of(at, length = vocabulary_.symbol_length(at, end)); at += length) {
    }
    if (at == end) return false;
    if (policy_.takes_whole_pieces()) {
      const Trie::Match match = vocabulary_.trie().longest(p, end);
      if (match.length == n && vocabulary_.is_known(vocabulary_.trie().unit_at(match.slot))) return false;
    }
    const Unknown& unknown = vocabulary_.unknown();
    units_.clear();
    run_.clear();
    bool waiting = false;
    const auto end_run = [&] {
      if (run_.empty()) return;
      policy_.encode_run(run_.data(), run_.size(), scratch_);
      units_.insert(units_.end(), scratch_.units.begin(), scratch_.units.end());
      run_.clear();
    };
    const auto end_waiting = [&] {
      if (waiting) units_.push_back(unknown.unit);
      waiting = false;
    };
    for (at = p; at < end;) {
      const uint32_t length = vocabulary_.symbol_length(at, end);
      const auto has_token = [&](uint8_t byte) { return unknown.byte_units[byte] != kNone; };
      if (unit_of(at, length)) {
        if (waiting) end_run(), end_waiting();
        run_.insert(run_.end(), at, at + length);
      } else if (!unknown.byte_units.empty() && std::all_of(at, at + length, has_token)) {
        end_run();
        for (uint32_t i = 0; i < length; ++i) units_.push_back(unknown.byte_units[at[i]]);
      } else if (unknown.unit != kNone) {
        end_run();
        if (!unknown.fuse) end_waiting();
        waiting = true;
      }
      at += length;
    }
    end_run();
    end_waiting();
    scratch_.units.swap(units_);
    return true;
  }

  const std::vector<uint32_t>& encode_piece(const Item& item) {
    cut(item);
    ids_.resize(item.length);
    ids_.resize(static_cast<size_t>(vocabulary_.emit(scratch_.units, ids_.data()) - ids_.data()));
    return ids_;
  }

  const Vocabulary& vocabulary_;
  const Policy& policy_;
  ShortCache short_;
  MediumCache medium_;
  LongCache long_;
  const size_t max_pool_;
  std::vector<uint32_t> pool_;
  Scratch scratch_;
  std::vector<uint32_t> ids_, units_;
  std::vector<uint8_t> run_;
};

}  // namespace llmtool
