// What pieces were encoded as: a bounded cache for one thread, so there are no locks.
//
// Text repeats: of 23 million pieces of a diverse corpus of 115 MB 0.7 million are distinct. A piece of up to 15
// bytes is its own key in a 32-byte entry, one of up to 31 bytes in a 64-byte entry; both kinds hold the ids too,
// so that a hit touches one cache line. Longer pieces, and results that do not fit, lie in bounded pools.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "bytes.hpp"

namespace llmtool {

// The bytes of a piece in kWords words, zero-filled, its length in the last byte: pieces are equal iff their keys are.
template <unsigned kWords>
struct PieceKey {
  uint64_t words[kWords];

  bool operator==(const PieceKey& other) const {
    uint64_t difference = 0;
    for (unsigned i = 0; i < kWords; ++i) difference |= words[i] ^ other.words[i];
    return !difference;
  }
  uint64_t hash() const {
    uint64_t hash = 0;
    for (unsigned i = 0; i < kWords; i += 2) {
      hash ^= fold_multiply(words[i] ^ (0xA0761D6478BD642Full * (i + 1)), words[i + 1] ^ 0xE7037ED1A0B428DBull);
    }
    return hash;
  }
};

// Of one thread. Tables begin small and double while they fill; these are the most entries that they come to.
struct CacheSizes {
  unsigned log2_short = 20, log2_medium = 18, log2_long = 18;
  size_t pool = 4u << 20;        // ids of short and medium pieces that do not fit
  size_t long_pool = 16u << 20;  // bytes of long pieces
  unsigned log2_first = 10;      // entries that short and medium tables begin with, 1 at least
};

using ShortKey = PieceKey<2>;
using MediumKey = PieceKey<4>;
inline constexpr size_t kMaxShort = 15, kMaxMedium = 31, kMaxLong = 255;

namespace detail {
struct Mask {
  uint64_t low, high;
};
struct MaskTable {
  Mask of_length[16];
  constexpr MaskTable() : of_length() {
    for (unsigned n = 0; n < 16; ++n) {
      of_length[n].low = n >= 8 ? ~0ull : (1ull << (8 * n)) - 1;
      of_length[n].high = n <= 8 ? 0 : (1ull << (8 * (n - 8))) - 1;
    }
  }
};
inline constexpr MaskTable kMasks;
}  // namespace detail

// n <= 15 bytes, zero-filled to 15, then the length.
LLMTOOL_INLINE void load_tail(const uint8_t* p, size_t n, size_t length, const uint8_t* readable_end, uint64_t* words) {
  if (LLMTOOL_LIKELY(readable_end - p >= 16)) {
    const detail::Mask mask = detail::kMasks.of_length[n];
    words[0] = load64(p) & mask.low;
    words[1] = (load64(p + 8) & mask.high) | static_cast<uint64_t>(length) << 56;
  } else {
    const size_t low = n < 8 ? n : 8;
    words[0] = low == 8 ? load64(p) : load_partial(p, low);
    words[1] = load_partial(p + low, n - low) | static_cast<uint64_t>(length) << 56;
  }
}

LLMTOOL_INLINE ShortKey short_key(const uint8_t* p, size_t n, const uint8_t* readable_end) {
  ShortKey key;
  load_tail(p, n, n, readable_end, key.words);
  return key;
}

LLMTOOL_INLINE MediumKey medium_key(const uint8_t* p, size_t n, const uint8_t* readable_end) {
  MediumKey key;
  key.words[0] = load64(p);
  key.words[1] = load64(p + 8);
  load_tail(p + 16, n - 16, n, readable_end, key.words + 2);
  return key;
}

// Zeroed memory that starts at a cache line; calloc, because fresh pages are zero already. Large pages lie behind the
// first 2 MB alone: where little is used, zeroing one takes longer than encoding the text.
template <class T>
class ZeroedArray {
 public:
  explicit ZeroedArray(size_t size) : size_(size), memory_(std::calloc(size * sizeof(T) + 64, 1)) {
    if (!memory_) throw std::bad_alloc();
    data_ = reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(memory_.get()) + 63) & ~uintptr_t{63});
    const size_t bytes = size * sizeof(T);
    if (bytes > kSmallPages) use_large_pages(reinterpret_cast<uint8_t*>(data_) + kSmallPages, bytes - kSmallPages);
  }
  T& operator[](size_t i) { return data_[i]; }
  T* data() { return data_; }
  size_t size() const { return size_; }
  void clear() { std::memset(static_cast<void*>(data_), 0, size_ * sizeof(T)); }

 private:
  static constexpr size_t kSmallPages = 2u << 20;

  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  size_t size_;
  std::unique_ptr<void, Free> memory_;
  T* data_;
};

// Pairs of entries; in each the one inserted last comes first and the other is overwritten next.
template <unsigned kWords, unsigned kIds>
class FixedCache {
 public:
  using Key = PieceKey<kWords>;
  struct Entry {
    Key key;
    uint32_t ids[kIds + 1];  // the last one is the number of ids, or kPooled with that number

    uint32_t& count() { return ids[kIds]; }
  };
  static_assert(sizeof(Entry) == 8 * kWords + 4 * (kIds + 1), "entries must fill cache lines");

  FixedCache(unsigned log2_most, unsigned log2_first)
      : entries_(size_t{1} << log2_most), size_(size_t{1} << std::min(log2_most, log2_first)) {}

  LLMTOOL_INLINE Entry* pair_of(const Key& key) { return &entries_[key.hash() & (size_ - 2)]; }

  // The choice between the two is arithmetic: a branch would be mispredicted half of the time.
  LLMTOOL_INLINE static Entry* find(Entry* pair, const Key& key) {
    Entry* const entry = pair + (pair[1].key == key);
    return LLMTOOL_LIKELY(entry->key == key) ? entry : nullptr;
  }

  Entry* insert(Entry* pair, const Key& key) {
    ++inserted_;
    pair[1] = pair[0];
    pair[0].key = key;
    return pair;
  }

  // Three quarters as many were inserted as have room: beyond that more and more pairs are asked to hold three.
  // Pointers from `pair_of` are wrong after `grow`.
  LLMTOOL_INLINE bool is_full() const { return LLMTOOL_UNLIKELY(inserted_ >= size_ / 4 * 3) && size_ < entries_.size(); }

  // Doubles the part that is in use, in place: what is behind it was never touched, and so is no memory yet. A pair
  // shares its entries out between itself and the one that lies `size_` further on, in the order in which they are.
  void grow() {
    for (size_t i = 0; i < size_; i += 2) {
      Entry* const here = &entries_[i];
      Entry* const there = here + size_;
      size_t stays = 0, goes = 0;
      for (const Entry entry : {here[0], here[1]}) {
        (entry.key.hash() & size_ ? there[goes++] : here[stays++]) = entry;
      }
      for (; stays < 2; ++stays) here[stays] = Entry{};
    }
    size_ *= 2;
  }

  void clear() {
    std::memset(static_cast<void*>(entries_.data()), 0, size_ * sizeof(Entry));
    inserted_ = 0;
  }

 private:
  ZeroedArray<Entry> entries_;
  size_t size_, inserted_ = 0;
};

using ShortCache = FixedCache<2, 3>;
using MediumCache = FixedCache<4, 7>;

// Pieces of 32 to 255 bytes, one for each hash value; bytes and ids lie in pools that are emptied when they are full.
class LongCache {
 public:
  struct Ids {
    const uint32_t* data;
    size_t size;
  };

  LongCache(unsigned log2_entries, size_t pool) : entries_(size_t{1} << log2_entries), pool_(pool) {}

  // data is null if the piece is not there.
  Ids find(const uint8_t* p, size_t n, uint64_t hash) {
    Entry& entry = entries_[hash & (entries_.size() - 1)];
    if (entry.length != n || entry.hash != hash || std::memcmp(&bytes_[entry.bytes], p, n)) return {nullptr, 0};
    return {&ids_[entry.ids], entry.count};
  }

  void insert(const uint8_t* p, size_t n, uint64_t hash, const std::vector<uint32_t>& ids) {
    if (bytes_.size() > pool_) {
      bytes_.clear();
      ids_.clear();
      entries_.clear();
    }
    entries_[hash & (entries_.size() - 1)] = {hash, static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(ids_.size()),
                                       static_cast<uint32_t>(n), static_cast<uint32_t>(ids.size())};
    bytes_.insert(bytes_.end(), p, p + n);
    ids_.insert(ids_.end(), ids.begin(), ids.end());
  }

 private:
  struct Entry {
    uint64_t hash;
    uint32_t bytes, ids, length, count;
  };
  ZeroedArray<Entry> entries_;
  const size_t pool_;
  std::vector<uint8_t> bytes_;
  std::vector<uint32_t> ids_;
};

}  // namespace llmtool
