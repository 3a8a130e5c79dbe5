// Ids as text: a line of decimal numbers for each document.
#pragma once
#include <stdexcept>
#include <vector>

#include "bytes.hpp"

namespace llmtool {

inline std::vector<char> format_ids(const std::vector<uint32_t>& ids, const std::vector<uint64_t>& ends) {
  constexpr size_t kMaxDigits = 10;
  std::vector<char> out;
  uint64_t begin = 0;
  for (const uint64_t end : ends) {
    if (end < begin || end > ids.size()) throw std::invalid_argument("ends: offsets decrease or leave the ids");
    const size_t used = out.size();
    out.resize(used + (end - begin) * (kMaxDigits + 1) + 1);
    char* to = out.data() + used;
    for (uint64_t i = begin; i < end; ++i) {
      if (i > begin) *to++ = ' ';
      char digits[kMaxDigits];
      size_t count = 0;
      uint32_t rest = ids[i];
      do {
        digits[count++] = static_cast<char>('0' + rest % 10);
        rest /= 10;
      } while (rest);
      while (count) *to++ = digits[--count];
    }
    *to++ = '\n';
    out.resize(static_cast<size_t>(to - out.data()));
    begin = end;
  }
  if (begin != ids.size()) throw std::invalid_argument("ends: ids are left after the last document");
  return out;
}

}  // namespace llmtool
