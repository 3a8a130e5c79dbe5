// Sorted runs of (piece, count) in temporary files, and their merge.
#pragma once
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <mutex>
#include <queue>
#include <string>
#include <vector>

#include "memory.hpp"

namespace llmtool {

struct Piece {
  const uint8_t* bytes;
  size_t length;
  uint64_t count;
};

inline int compare(const Piece& a, const Piece& b) {
  const int order = std::memcmp(a.bytes, b.bytes, std::min(a.length, b.length));
  return order ? order : a.length < b.length ? -1 : a.length > b.length;
}

class SortedPieces {
 public:
  void reserve(size_t pieces, size_t bytes) {
    refs_.reserve(pieces);
    bytes_.reserve(bytes);
  }
  void push_back(const uint8_t* p, size_t n, uint64_t count) {
    refs_.push_back({bytes_.size(), n, count});
    bytes_.insert(bytes_.end(), p, p + n);
  }
  void sort() {
    std::sort(refs_.begin(), refs_.end(), [this](const Ref& a, const Ref& b) { return compare(at(a), at(b)) < 0; });
  }
  size_t size() const { return refs_.size(); }
  // Bytes that so many pieces take here, of so many bytes themselves.
  static size_t memory(size_t pieces, size_t bytes) { return pieces * sizeof(Ref) + bytes; }
  Piece operator[](size_t i) const { return at(refs_[i]); }

 private:
  struct Ref {
    size_t offset, length;
    uint64_t count;
  };
  Piece at(const Ref& ref) const { return {bytes_.data() + ref.offset, ref.length, ref.count}; }

  std::vector<uint8_t> bytes_;
  std::vector<Ref> refs_;
};

class Run {
 public:
  explicit Run(const std::string& directory) {
    const int descriptor = unnamed_file(directory);
    file_.reset(fdopen(descriptor, "w+b"));
    if (!file_) {
      const int error = errno;
      close(descriptor);
      throw IoError("cannot spill counts to " + directory, error);
    }
  }

  void write(const Piece& piece) {
    const uint64_t header[2] = {piece.length, piece.count};
    if (std::fwrite(header, sizeof header, 1, file_.get()) != 1 ||
        (piece.length && std::fwrite(piece.bytes, piece.length, 1, file_.get()) != 1)) {
      throw IoError("cannot spill counts", errno);
    }
  }

  void rewind() {
    if (std::fflush(file_.get()) || std::fseek(file_.get(), 0, SEEK_SET)) throw IoError("cannot spill counts", errno);
  }

  // False at the end; the piece's bytes are `buffer`'s.
  bool read(std::vector<uint8_t>& buffer, Piece& piece) {
    uint64_t header[2];
    if (std::fread(header, sizeof header, 1, file_.get()) != 1) {
      if (std::ferror(file_.get())) throw IoError("cannot read spilled counts", errno);
      return false;
    }
    buffer.resize(header[0]);
    if (header[0] && std::fread(buffer.data(), header[0], 1, file_.get()) != 1) {
      throw IoError("cannot read spilled counts", std::ferror(file_.get()) ? errno : EIO);
    }
    piece = {buffer.data(), buffer.size(), header[1]};
    return true;
  }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::unique_ptr<std::FILE, Close> file_;
};

class Runs {
 public:
  explicit Runs(std::string directory) : directory_(std::move(directory)) {}

  // May be called from several threads at once.
  void write(const SortedPieces& pieces) {
    auto run = std::make_unique<Run>(directory_);
    for (size_t i = 0; i < pieces.size(); ++i) run->write(pieces[i]);
    run->rewind();
    const std::lock_guard<std::mutex> lock(mutex_);
    runs_.push_back(std::move(run));
    ++written_;
    for (size_t i = 0; i < pieces.size(); ++i) bytes_ += pieces[i].length + 1;
    if (runs_.size() == kMaxOpen) fold();  // files are few, as descriptors are
  }

  // All runs as one, in which each piece stands once: bytes() is exact then.
  void fold() {
    if (runs_.size() < 2) return;
    auto merged = std::make_unique<Run>(directory_);
    bytes_ = 0;
    merge({}, [&](const uint8_t* p, size_t n, uint64_t count) {
      merged->write({p, n, count});
      bytes_ += n + 1;
    });
    merged->rewind();
    runs_.clear();
    runs_.push_back(std::move(merged));
  }

  // visit(bytes, length, count) for each distinct piece of all runs and of `in_memory`, in the order of the bytes.
  template <class Visit>
  void merge(const std::vector<SortedPieces>& in_memory, Visit&& visit) {
    std::vector<Source> sources;
    sources.reserve(in_memory.size() + runs_.size());
    for (const SortedPieces& pieces : in_memory) sources.push_back({nullptr, &pieces});
    for (const auto& run : runs_) {
      run->rewind();
      sources.push_back({run.get(), nullptr});
    }
    const auto later = [](const Source* a, const Source* b) { return compare(a->piece, b->piece) > 0; };
    std::priority_queue<Source*, std::vector<Source*>, decltype(later)> queue(later);
    for (Source& source : sources) {
      if (source.next()) queue.push(&source);
    }
    std::vector<uint8_t> bytes;
    while (!queue.empty()) {
      bytes.assign(queue.top()->piece.bytes, queue.top()->piece.bytes + queue.top()->piece.length);
      Piece sum{bytes.data(), bytes.size(), 0};
      while (!queue.empty() && compare(queue.top()->piece, sum) == 0) {
        Source* const source = queue.top();
        queue.pop();
        sum.count += source->piece.count;
        if (source->next()) queue.push(source);
      }
      visit(sum.bytes, sum.length, sum.count);
    }
  }

  bool empty() const { return runs_.empty(); }
  uint64_t written() const { return written_; }
  // Of all pieces written, and one for each; a piece in several runs counts again.
  size_t bytes() const { return bytes_; }

 private:
  static constexpr size_t kMaxOpen = 64;

  struct Source {
    Run* run;
    const SortedPieces* pieces;
    size_t index = 0;
    Piece piece{};
    std::vector<uint8_t> buffer{};

    bool next() {
      if (run) return run->read(buffer, piece);
      if (index == pieces->size()) return false;
      piece = (*pieces)[index++];
      return true;
    }
  };

  std::string directory_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Run>> runs_;
  uint64_t written_ = 0;
  size_t bytes_ = 0;
};

}  // namespace llmtool
