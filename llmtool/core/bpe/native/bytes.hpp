// Unaligned little-endian loads, a hash of byte strings, and the two hints the hot loops need.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__GNUC__) || defined(__clang__)
#define LLMTOOL_LIKELY(x) __builtin_expect(!!(x), 1)
#define LLMTOOL_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define LLMTOOL_INLINE inline __attribute__((always_inline))
#define LLMTOOL_NOINLINE __attribute__((noinline))
#else
#error "the engine needs GCC or Clang (128-bit products, count-trailing-zeros)"
#endif

namespace llmtool {

inline constexpr uint32_t kNone = 0xFFFFFFFFu;

LLMTOOL_INLINE uint32_t load32(const uint8_t* p) {
  uint32_t x;
  std::memcpy(&x, p, sizeof x);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  x = __builtin_bswap32(x);
#endif
  return x;
}

LLMTOOL_INLINE uint64_t load64(const uint8_t* p) {
  uint64_t x;
  std::memcpy(&x, p, sizeof x);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  x = __builtin_bswap64(x);
#endif
  return x;
}

// The first n < 8 bytes at p as a number, without touching the ninth.
LLMTOOL_INLINE uint64_t load_partial(const uint8_t* p, size_t n) {
  if (n >= 4) return load32(p) | static_cast<uint64_t>(load32(p + n - 4)) << (8 * (n - 4));
  if (n == 0) return 0;
  return p[0] | static_cast<uint64_t>(p[n / 2]) << (8 * (n / 2)) | static_cast<uint64_t>(p[n - 1]) << (8 * (n - 1));
}

// The high and the low half of the product, folded: one multiplication mixes 128 bits.
LLMTOOL_INLINE uint64_t fold_multiply(uint64_t a, uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

inline uint64_t hash_bytes(const uint8_t* p, size_t n) {
  uint64_t hash = n * 0x9E3779B97F4A7C15ull;
  for (; n >= 8; p += 8, n -= 8) hash = fold_multiply(hash ^ load64(p), 0xD6E8FEB86659FD93ull);
  return fold_multiply(hash ^ load_partial(p, n), 0xA0761D6478BD642Full);
}

LLMTOOL_INLINE void prefetch(const void* p) { __builtin_prefetch(p); }

// Asks for large pages for [p, p + size), a fresh table that will be touched all over: two threads that fault it in by
// pages of 4 KB wait for each other, which took half of the time of encoding 115 MB with cold caches.
inline void use_large_pages(void* p, size_t size) {
#if defined(__linux__)
  constexpr uintptr_t kLargePage = 2u << 20;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(p) + kLargePage - 1) & ~(kLargePage - 1);
  const uintptr_t end = (reinterpret_cast<uintptr_t>(p) + size) & ~(kLargePage - 1);
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)p, (void)size;
#endif
}

inline size_t power_of_two_at_least(size_t n) {
  size_t size = 1;
  while (size < n) size *= 2;
  return size;
}

}  // namespace llmtool
