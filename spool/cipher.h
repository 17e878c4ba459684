// Encryption at rest: AES-256-GCM (NIST SP 800-38D) through OpenSSL.
//
// A *master key* belongs to the operator and stays outside the spool. Each segment has a *data key*
// of its own, made at random and kept in the segment wrapped by a master key. So a new master key
// takes effect with the next segment and old segments are not written anew; they need the old key
// until they are gone.
//
// Each piece of data is sealed with a nonce that is never used twice under its data key: eight
// random bytes (a *salt*, of a frame or a part of a checkpoint) and four that count the pieces
// under it. A commit that a crash undid and another that takes its number differ in the salt. What
// is sealed is bound to its context, bytes that both sides know, so that it cannot be moved
// elsewhere.
//
// Threads: KeyRing is constant; SegmentKey::Seal belongs to the writer of the segment, Open comes
//   from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

struct evp_cipher_ctx_st;

namespace holdfast::spool {

inline constexpr size_t kKeyBytes = 32;
inline constexpr size_t kSealBytes = 16;  // What sealing adds: the authentication tag.
inline constexpr size_t kSaltBytes = 8;

using Salt = std::array<char, kSaltBytes>;
// From the system's source of randomness.
Salt NewSalt();

// The operator's keys. The first wraps, all unwrap; none: no encryption.
class KeyRing {
 public:
  KeyRing() = default;
  // Each as 64 hexadecimal digits, or as 44 characters of Base64 (`openssl rand -base64 32`).
  // kInvalid, without the key's text, if one is neither.
  static base::Result<KeyRing> Parse(std::span<const std::string> keys);

  [[nodiscard]] bool empty() const { return keys_.empty(); }

 private:
  friend class SegmentKey;
  using KeyId = std::array<char, 8>;  // Names a key without telling it.
  struct MasterKey {
    KeyId id{};
    std::string bytes;
  };
  std::vector<MasterKey> keys_;
};

class SegmentKey {
 public:
  // The ring has a key.
  static std::shared_ptr<SegmentKey> Make(const KeyRing& ring);
  // kInvalid if the ring does not have the master key; kCorrupt if `wrapped` is damaged.
  static base::Result<std::shared_ptr<SegmentKey>> Unwrap(const KeyRing& ring,
                                                          std::string_view wrapped);
  ~SegmentKey();
  SegmentKey(const SegmentKey&) = delete;
  SegmentKey& operator=(const SegmentKey&) = delete;

  // What Unwrap takes; kWrappedKeyBytes long.
  [[nodiscard]] const std::string& wrapped() const { return wrapped_; }
  // Whether it was wrapped by the key that the ring wraps with.
  [[nodiscard]] bool IsCurrent(const KeyRing& ring) const;

  // Fills `out`, which is kSealBytes longer than `plain`.
  void Seal(const Salt& salt, uint32_t piece, std::string_view context, std::string_view plain,
            std::span<char> out);
  // Puts what was sealed into `plain`. kCorrupt if it, its salt, number or context is another.
  base::Result<void> Open(const Salt& salt, uint32_t piece, std::string_view context,
                          std::string_view sealed, std::string* plain) const;

 private:
  SegmentKey(std::string_view key, std::string wrapped);

  struct FreeContext {
    void operator()(evp_cipher_ctx_st* context) const;
  };
  using Context = std::unique_ptr<evp_cipher_ctx_st, FreeContext>;

  const std::string wrapped_;
  Context sealing_;
  Context opening_;  // Never used itself but copied, since its key is set up already.
};

inline constexpr size_t kWrappedKeyBytes = 8 + 12 + kKeyBytes + kSealBytes;

}  // namespace holdfast::spool
