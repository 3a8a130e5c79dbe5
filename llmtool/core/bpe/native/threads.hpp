// Work on several threads; what one of them throws is thrown to the caller after all have ended.
#pragma once
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace llmtool {

// work(0) ... work(threads - 1), the first of them on the calling thread.
template <class Work>
void run_on_threads(unsigned threads, Work&& work) {
  std::exception_ptr failure;
  std::mutex mutex;
  const auto guarded = [&](unsigned number) {
    try {
      work(number);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  others.reserve(threads);
  try {
    for (unsigned number = 1; number < threads; ++number) others.emplace_back(guarded, number);
  } catch (const std::system_error&) {
    // The system gives no more threads: the ones there are take all the work, for it is handed out piece by piece.
  }
  guarded(0);
  for (std::thread& other : others) other.join();
  if (failure) std::rethrow_exception(failure);
}

// Documents of about kBlockBytes together, the unit of work of a thread.
struct Block {
  size_t first, last;
};

inline std::vector<Block> blocks_of(const std::vector<uint64_t>& ends) {
  constexpr uint64_t kBlockBytes = 256 << 10;
  std::vector<Block> blocks;
  size_t first = 0;
  for (size_t i = 0; i < ends.size(); ++i) {
    if (ends[i] - (first ? ends[first - 1] : 0) >= kBlockBytes || i + 1 == ends.size()) {
      blocks.push_back({first, i + 1});
      first = i + 1;
    }
  }
  return blocks;
}

}  // namespace llmtool
