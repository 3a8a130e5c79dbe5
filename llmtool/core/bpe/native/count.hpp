// Counting pieces: a hash table for each thread; when memory runs out, sorted runs on disk that are merged at the end.
#pragma once
#include <algorithm>
#include <memory>
#include <string>

#include "cache.hpp"
#include "encoder.hpp"
#include "runs.hpp"
#include "scanners.hpp"
#include "threads.hpp"

namespace llmtool {

// Piece -> count, open addressing. Pieces of up to 15 bytes lie in the table, longer ones in an arena.
class PieceTable {
 public:
  PieceTable() : entries_(kMinEntries) {}

  struct Slot {
    ShortKey key;
    uint64_t hash;
  };

  // The piece's key and hash; the table's line for it is on its way.
  LLMTOOL_INLINE Slot prepare(const uint8_t* p, size_t n, const uint8_t* readable_end) {
    Slot slot;
    if (LLMTOOL_LIKELY(n <= kMaxShort)) {
      slot.key = short_key(p, n, readable_end);
      slot.hash = slot.key.hash();
    } else {
      slot.hash = hash_bytes(p, n);
      slot.key = {{slot.hash, kInArena}};
    }
    prefetch(&entries_[slot.hash & mask()]);
    return slot;
  }

  LLMTOOL_INLINE void add(const Slot& slot, const uint8_t* p, size_t n, uint64_t count) {
    for (size_t i = slot.hash & mask();; i = (i + 1) & mask()) {
      Entry& entry = entries_[i];
      if (LLMTOOL_LIKELY(entry.key == slot.key)) {
        entry.count += count;
        return;
      }
      if (!entry.count) return insert(entry, slot, p, n, count);
      if (LLMTOOL_UNLIKELY(n > kMaxShort) && holds(entry, slot.hash, p, n)) {
        entry.count += count;
        return;
      }
    }
  }

  // Makes sure that `count` more pieces, of `arena` bytes where they are long, leave the table at most half full. False
  // if that takes over `budget` bytes: those of a table that grows, and of the sorted copy that is written to disk.
  bool reserve(size_t count, size_t arena, size_t budget) {
    const size_t needed = power_of_two_at_least((size_ + count) * 2);
    const size_t growth = needed > entries_.size() ? needed * sizeof(Entry) : 0;
    const size_t room = arena_.size() + arena > arena_.capacity() ? std::max(2 * arena_.capacity(), arena_.size() + arena) : 0;
    const size_t sorted = SortedPieces::memory(size_, bytes_);
    if (size_ && memory() + std::max(growth, sorted) + room > budget) return false;
    if (growth) grow(needed);
    if (room) arena_.reserve(room);
    return true;
  }

  // What a piece takes in the arena.
  static size_t in_arena(size_t length) { return length > kMaxShort ? length + sizeof(uint64_t) : 0; }

  // All (bytes, length, count), in no order.
  template <class Visit>
  void for_each(Visit&& visit) {
    for (size_t i = 0; i < entries_.size(); ++i) {
      if (!entries_[i].count) continue;
      uint8_t bytes[16];
      if (in_arena(entries_[i])) {
        const Long piece = long_piece(entries_[i]);
        visit(piece.bytes, piece.length, entries_[i].count);
      } else {
        std::memcpy(bytes, entries_[i].key.words, 16);
        visit(static_cast<const uint8_t*>(bytes), size_t{bytes[15]}, entries_[i].count);
      }
    }
  }

  void add_all(PieceTable& other) {
    reserve(other.size_, other.arena_.size(), SIZE_MAX);
    other.for_each([&](const uint8_t* p, size_t n, uint64_t count) { add(prepare(p, n, p + n), p, n, count); });
  }

  void clear() { *this = PieceTable(); }
  size_t size() const { return size_; }
  size_t bytes() const { return bytes_; }  // of all distinct pieces together
  size_t memory() const { return entries_.size() * sizeof(Entry) + arena_.capacity(); }

 private:
  static constexpr size_t kMinEntries = 1u << 12;
  static constexpr uint64_t kInArena = 0xFFull << 56;

  // An empty entry has count 0. In the arena: key = {hash, kInArena | offset of the length and the bytes}.
  struct Entry {
    ShortKey key;
    uint64_t count;
  };
  struct Long {
    const uint8_t* bytes;
    size_t length;
  };

  size_t mask() const { return entries_.size() - 1; }
  static bool in_arena(const Entry& entry) { return entry.key.words[1] >= kInArena; }

  Long long_piece(const Entry& entry) const {
    const uint8_t* const at = arena_.data() + (entry.key.words[1] & ~kInArena);
    uint64_t length;
    std::memcpy(&length, at, sizeof length);
    return {at + sizeof length, static_cast<size_t>(length)};
  }

  bool holds(const Entry& entry, uint64_t hash, const uint8_t* p, size_t n) const {
    if (!in_arena(entry) || entry.key.words[0] != hash) return false;
    const Long piece = long_piece(entry);
    return piece.length == n && !std::memcmp(piece.bytes, p, n);
  }

  LLMTOOL_NOINLINE void insert(Entry& entry, const Slot& slot, const uint8_t* p, size_t n, uint64_t count) {
    entry = {slot.key, count};
    if (n > kMaxShort) {
      entry.key.words[1] |= arena_.size();
      const uint64_t length = n;
      const uint8_t* const length_bytes = reinterpret_cast<const uint8_t*>(&length);
      arena_.insert(arena_.end(), length_bytes, length_bytes + sizeof length);
      arena_.insert(arena_.end(), p, p + n);
    }
    ++size_;
    bytes_ += n;
  }

  void grow(size_t size) {
    ZeroedArray<Entry> old(size);
    std::swap(old, entries_);
    for (size_t i = 0; i < old.size(); ++i) {
      if (!old[i].count) continue;
      size_t to = (in_arena(old[i]) ? old[i].key.words[0] : old[i].key.hash()) & mask();
      while (entries_[to].count) to = (to + 1) & mask();
      entries_[to] = old[i];
    }
  }

  ZeroedArray<Entry> entries_;
  // Nothing lies at offset 0: there an entry's key would equal the key that every piece of its hash is looked up by.
  std::vector<uint8_t> arena_ = std::vector<uint8_t>(1);
  size_t size_ = 0, bytes_ = 0;
};

// Pieces longer than this are counted in parts: a hundred megabytes without a cut (NULs, a genome on one line) would
// otherwise be one key of a hundred megabytes, and 33 bytes a byte in the merge loop. engine.py has the same rule.
constexpr size_t kLongestPiece = size_t{1} << 20;

// Where to cut the piece p .. end, which is longer than that: in front of a character, where it is UTF-8.
inline const uint8_t* part_end(const uint8_t* p, const uint8_t* end) {
  if (static_cast<size_t>(end - p) <= kLongestPiece) return end;
  const uint8_t* cut = p + kLongestPiece;
  for (unsigned back = 0; back < 3 && (*cut & 0xC0) == 0x80; ++back) --cut;
  return cut;
}

class PieceCounter {
 public:
  PieceCounter(Pretokenizer pretokenizer, unsigned threads, size_t max_memory, std::string spill_directory)
      : pretokenizer_(pretokenizer),
        budget_(max_memory ? max_memory / std::max(threads, 1u) : SIZE_MAX),
        tables_(std::max(threads, 1u)),
        memory_{max_memory ? max_memory : SIZE_MAX, spill_directory_or_default(std::move(spill_directory))},
        runs_(memory_.directory) {}

  void add(const Documents& documents) {
    const std::vector<Block> blocks = blocks_of(documents.ends);
    std::atomic<size_t> next{0};
    const auto threads = static_cast<unsigned>(std::min(tables_.size(), std::max<size_t>(blocks.size(), 1)));
    std::atomic<uint64_t> pieces{0};
    with_scanner(pretokenizer_, [&](auto scanner) {
      run_on_threads(threads, [&](unsigned number) {
        for (size_t b; (b = next++) < blocks.size();) {
          pieces += add_block<decltype(scanner)>(documents, blocks[b], tables_[number]);
        }
      });
    });
    pieces_ += pieces;
    bytes_ += documents.ends.empty() ? 0 : documents.ends.back();
  }

  // (bytes, length, count) of each distinct piece: in the order of their bytes if `sorted`, else perhaps not.
  template <class Visit>
  void for_each(bool sorted, Visit&& visit) {
    gather();
    if (runs_.empty() && !sorted) {
      tables_[0].for_each(visit);
      return;
    }
    std::vector<SortedPieces> in_memory;
    if (runs_.empty()) in_memory.push_back(sorted_pieces(tables_[0]));
    runs_.merge(in_memory, visit);
  }

  // The bytes of all distinct pieces together, and one for each.
  size_t distinct_bytes() {
    gather();
    return runs_.empty() ? tables_[0].bytes() + tables_[0].size() : runs_.bytes();
  }

  const Memory& memory() const { return memory_; }
  uint64_t pieces() const { return pieces_; }
  uint64_t bytes() const { return bytes_; }
  uint64_t spills() const { return runs_.written(); }

 private:
  template <class Scanner>
  uint64_t add_block(const Documents& documents, const Block& block, PieceTable& table) {
    constexpr unsigned kBatch = 32;
    struct Item {
      const uint8_t* piece;
      size_t length;
      PieceTable::Slot slot;
    } items[kBatch];
    const uint8_t* const readable_end = documents.text + documents.ends.back();
    uint64_t pieces = 0;
    for (size_t i = block.first; i < block.last; ++i) {
      const Text text{documents.text + documents.ends[i], readable_end, documents.text + documents.begin_of(i)};
      const uint8_t* piece_end = nullptr;
      for (const uint8_t* p = documents.text + documents.begin_of(i); p < text.end;) {
        unsigned count = 0;
        size_t arena = 0;
        for (; count < kBatch && arena < kLongestPiece && p < text.end; ++count) {
          const uint8_t* end = piece_end && p < piece_end ? piece_end : Scanner::next(p, text);
          piece_end = end;  // the parts of a long piece are not scanned again: each scan would run to its end
          end = part_end(p, end);
          items[count] = {p, static_cast<size_t>(end - p), table.prepare(p, end - p, readable_end)};
          arena += PieceTable::in_arena(items[count].length);
          p = end;
        }
        if (LLMTOOL_UNLIKELY(!table.reserve(count, arena, budget_))) {
          spill(table);
          table.reserve(count, arena, SIZE_MAX);
        }
        for (unsigned k = 0; k < count; ++k) table.add(items[k].slot, items[k].piece, items[k].length, 1);
        pieces += count;
      }
    }
    return pieces;
  }

  // Every distinct piece in one place: one run on disk, or the first table if that takes little of the budget. What
  // comes after counting has the rest of it.
  void gather() {
    size_t held = 0;
    for (const PieceTable& table : tables_) held += table.memory();
    if (runs_.empty() && held <= memory_.budget / 4) {
      for (size_t i = 1; i < tables_.size(); ++i) {
        tables_[0].add_all(tables_[i]);
        tables_[i].clear();
      }
      return;
    }
    for (PieceTable& table : tables_) {
      if (table.size()) spill(table);
    }
    runs_.fold();
  }

  static SortedPieces sorted_pieces(PieceTable& table) {
    SortedPieces pieces;
    pieces.reserve(table.size(), table.bytes());
    table.for_each([&](const uint8_t* p, size_t n, uint64_t count) { pieces.push_back(p, n, count); });
    pieces.sort();
    return pieces;
  }

  void spill(PieceTable& table) {
    const SortedPieces pieces = sorted_pieces(table);
    table.clear();
    runs_.write(pieces);
  }

  const Pretokenizer pretokenizer_;
  const size_t budget_;
  std::vector<PieceTable> tables_;
  const Memory memory_;
  Runs runs_;
  uint64_t pieces_ = 0, bytes_ = 0;
};

}  // namespace llmtool
