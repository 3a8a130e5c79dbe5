// From documents to ids: blocks of documents go over several threads, and their ids to their places.
#pragma once
#include <memory>
#include <optional>

#include "encoding_thread.hpp"
#include "threads.hpp"

namespace llmtool {

class Encoder {
 public:
  virtual ~Encoder() = default;
  // Writes all ids to `out`, which has room for an id a byte and kOutputSlack, and the end of each document in
  // `id_ends`. May be called from several threads at once.
  virtual uint64_t encode(const Documents& documents, unsigned threads, uint32_t* out, uint64_t* id_ends) = 0;
  virtual uint64_t operations() = 0;
  virtual std::unique_ptr<PieceCutter> cutter() = 0;
  virtual const Vocabulary& vocabulary() const = 0;
  // What `restore` in module.cpp makes the same encoder of; empty for a policy that builds nothing.
  virtual std::vector<uint8_t> state() = 0;
};

// Blocks are encoded in any order, each into a buffer of its own, and copied to their places as soon as the number of
// ids before them is known.
class InOrder {
 public:
  InOrder(size_t blocks, uint32_t* out) : out_(out), done_(blocks) {}

  struct Result {
    std::vector<uint32_t> ids;
    size_t size = 0;
    size_t block = 0;
    uint64_t offset = 0;
  };

  // Takes the block's ids and appends to `ready` every block whose place became known by it.
  void finish(Result result, std::vector<Result>& ready) {
    const std::lock_guard<std::mutex> lock(mutex_);
    done_[result.block] = std::move(result);
    for (; next_ < done_.size() && done_[next_]; ++next_) {
      done_[next_]->offset = offset_;
      offset_ += done_[next_]->size;
      ready.push_back(std::move(*done_[next_]));
      done_[next_].reset();
    }
  }

  void copy(const Result& result) const {
    if (result.size) std::memcpy(out_ + result.offset, result.ids.data(), result.size * sizeof(uint32_t));
  }
  uint64_t total() const { return offset_; }

 private:
  uint32_t* const out_;
  std::mutex mutex_;
  std::vector<std::optional<Result>> done_;
  size_t next_ = 0;
  uint64_t offset_ = 0;
};

template <class Policy>
class EncoderWith final : public Encoder {
 public:
  template <class... Args>
  EncoderWith(const CacheSizes& sizes, Pretokenizer pretokenizer, std::unique_ptr<Vocabulary> vocabulary, Args&&... args)
      : sizes_(sizes),
        pretokenizer_(pretokenizer),
        vocabulary_(std::move(vocabulary)),
        policy_(*vocabulary_, std::forward<Args>(args)...) {}

  uint64_t encode(const Documents& documents, unsigned threads, uint32_t* out, uint64_t* id_ends) override {
    return with_scanner(pretokenizer_, [&](auto scanner) {
      return encode_with<decltype(scanner)>(documents, threads, out, id_ends);
    });
  }

  std::unique_ptr<PieceCutter> cutter() override { return make_thread(); }

  const Vocabulary& vocabulary() const override { return *vocabulary_; }

  std::vector<uint8_t> state() override {
    if constexpr (std::is_constructible_v<Policy, const Vocabulary&, StateReader&>) {
      StateWriter writer;
      writer(kStateForm), writer(static_cast<uint32_t>(pretokenizer_));
      vocabulary_->fields(writer), policy_.fields(writer);
      return writer.bytes();
    } else {
      return {};
    }
  }

  uint64_t operations() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    uint64_t sum = 0;
    for (const auto& thread : idle_) sum += thread->operations();
    return sum;
  }

 private:
  using Thread = EncodingThread<Policy>;

  template <class Scanner>
  uint64_t encode_with(const Documents& documents, unsigned threads, uint32_t* out, uint64_t* id_ends) {
    const std::vector<Block> blocks = blocks_of(documents.ends);
    if (threads <= 1 || blocks.size() <= 1) {
      std::unique_ptr<Thread> thread = take();
      const uint32_t* const end = thread->template encode<Scanner>(documents, 0, documents.ends.size(), out, id_ends);
      give_back(std::move(thread));
      return static_cast<uint64_t>(end - out);
    }
    std::atomic<size_t> next{0};
    InOrder in_order(blocks.size(), out);
    run_on_threads(static_cast<unsigned>(std::min<size_t>(threads, blocks.size())), [&](unsigned) {
      std::unique_ptr<Thread> thread = take();
      std::vector<std::vector<uint32_t>> spare;
      std::vector<InOrder::Result> ready;
      for (size_t b; (b = next++) < blocks.size();) {
        const Block& block = blocks[b];
        const size_t bytes = documents.ends[block.last - 1] - documents.begin_of(block.first);
        InOrder::Result result;
        if (!spare.empty()) result.ids = std::move(spare.back()), spare.pop_back();
        if (result.ids.size() < bytes + kOutputSlack) result.ids.resize(bytes + kOutputSlack);
        uint32_t* const begin = result.ids.data();
        result.block = b;
        result.size = static_cast<size_t>(
            thread->template encode<Scanner>(documents, block.first, block.last, begin, id_ends) - begin);
        ready.clear();
        in_order.finish(std::move(result), ready);
        for (InOrder::Result& done : ready) {
          in_order.copy(done);
          for (size_t i = blocks[done.block].first; i < blocks[done.block].last; ++i) id_ends[i] += done.offset;
          spare.push_back(std::move(done.ids));
        }
      }
      give_back(std::move(thread));
    });
    return in_order.total();
  }

  std::unique_ptr<Thread> take() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<Thread> thread = std::move(idle_.back());
        idle_.pop_back();
        return thread;
      }
    }
    return make_thread();
  }

  std::unique_ptr<Thread> make_thread() {
    return std::make_unique<Thread>(*vocabulary_, policy_, sizes_);
  }

  void give_back(std::unique_ptr<Thread> thread) {
    const std::lock_guard<std::mutex> lock(mutex_);
    idle_.push_back(std::move(thread));
  }

  const CacheSizes sizes_;
  const Pretokenizer pretokenizer_;
  const std::unique_ptr<Vocabulary> vocabulary_;
  Policy policy_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Thread>> idle_;
};

}  // namespace llmtool
