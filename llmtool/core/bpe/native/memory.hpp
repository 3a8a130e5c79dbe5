// Arrays that are memory while they are small and mapped files once they pass a budget, so that the system can put them
// out of memory when it needs the room.
#pragma once
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bytes.hpp"

namespace llmtool {

struct IoError : std::runtime_error {
  IoError(const std::string& what, int error) : std::runtime_error(what + ": " + std::strerror(error)) {}
};

// What training may take, and where the rest goes.
struct Memory {
  size_t budget;
  std::string directory;
};

inline std::string spill_directory_or_default(std::string directory) {
  if (!directory.empty()) return directory;
  const char* const temporary = std::getenv("TMPDIR");
  return temporary && *temporary ? temporary : "/tmp";
}

// A file without a name: it is gone when it is closed, however the process ends.
inline int unnamed_file(const std::string& directory) {
  std::string path = directory + "/llmtool-training-XXXXXX";
  const int descriptor = mkstemp(path.data());
  if (descriptor < 0) throw IoError("cannot spill counts to " + directory, errno);
  unlink(path.c_str());
  return descriptor;
}

template <class T>
class BoundedAllocator {
 public:
  using value_type = T;
  template <class U>
  struct rebind {
    using other = BoundedAllocator<U>;
  };
  using propagate_on_container_move_assignment = std::true_type;
  using is_always_equal = std::false_type;

  BoundedAllocator(const Memory& memory) : memory_(memory) {}
  template <class U>
  BoundedAllocator(const BoundedAllocator<U>& other) : memory_(other.memory()) {}
  const Memory& memory() const { return memory_; }

  T* allocate(size_t n) {
    const size_t bytes = n * sizeof(T);
    if (in_memory(n)) return static_cast<T*>(::operator new(bytes));
    const int file = unnamed_file(memory_.directory);
    // All blocks are taken now: a disk that fills up later would end the process at a plain write to memory.
    const int full = posix_fallocate(file, 0, static_cast<off_t>(bytes));
    void* const mapped = full ? MAP_FAILED : mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    const int error = full ? full : errno;
    close(file);
    if (mapped == MAP_FAILED) throw IoError("cannot keep the pairs of training in " + memory_.directory, error);
    return static_cast<T*>(mapped);
  }

  void deallocate(T* p, size_t n) {
    if (in_memory(n)) {
      ::operator delete(p);
    } else {
      munmap(p, n * sizeof(T));
    }
  }

  // Five such arrays grow with the text, one of them there twice while it does: together they keep within the budget.
  bool in_memory(size_t n) const { return n * sizeof(T) <= memory_.budget / 8; }

  // Memory of one may be freed by another only if both draw the line at the same size.
  bool operator==(const BoundedAllocator& other) const { return memory_.budget == other.memory_.budget; }
  bool operator!=(const BoundedAllocator& other) const { return !(*this == other); }

 private:
  Memory memory_;
};

template <class T>
using Bounded = std::vector<T, BoundedAllocator<T>>;

}  // namespace llmtool
