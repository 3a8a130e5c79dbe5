// The built tables of an encoder as bytes, and back: loading them is a few copies, building them a search.
//
// A state is read by the engine that wrote it, from a file whose digest has been checked: lengths are looked at, what
// the tables hold is not. Each class lists its fields once, in `fields(visit)`, which serves both ways.
#pragma once
#include <cstring>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "bytes.hpp"

namespace llmtool {

// To be raised with every change of a field or of its meaning.
inline constexpr uint32_t kStateForm = 1;

class StateWriter {
 public:
  template <class T>
  void operator()(const std::vector<T>& items) {
    (*this)(static_cast<uint64_t>(items.size()));
    append(items.data(), items.size() * sizeof(T));
  }
  template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
  void operator()(const T& value) {
    append(&value, sizeof value);
  }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  void append(const void* data, size_t size) {
    const uint8_t* const p = static_cast<const uint8_t*>(data);
    bytes_.insert(bytes_.end(), p, p + size);
  }

  std::vector<uint8_t> bytes_;
};

class StateReader {
 public:
  StateReader(const uint8_t* data, size_t size) : p_(data), end_(data + size) {}

  template <class T>
  void operator()(std::vector<T>& items) {
    static_assert(std::is_trivially_copyable_v<T>);
    uint64_t size = 0;
    (*this)(size);
    if (size > static_cast<uint64_t>(end_ - p_) / sizeof(T)) throw std::invalid_argument("state: cut short");
    items.resize(size);
    take(items.data(), size * sizeof(T));
  }
  template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
  void operator()(T& value) {
    if (static_cast<size_t>(end_ - p_) < sizeof value) throw std::invalid_argument("state: cut short");
    take(&value, sizeof value);
  }
  bool at_end() const { return p_ == end_; }

 private:
  void take(void* to, size_t size) {
    if (size) std::memcpy(to, p_, size);
    p_ += size;
  }

  const uint8_t* p_;
  const uint8_t* const end_;
};

}  // namespace llmtool
