#include "spool/cipher.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/endian.h"
#include "base/event.h"
#include "base/hex.h"

namespace holdfast::spool {
namespace {

constexpr size_t kNonceBytes = 12;
constexpr size_t kHexDigits = 2 * kKeyBytes;
constexpr size_t kBase64Digits = 44;
constexpr std::string_view kWrapContext = "holdfast segment key";
constexpr std::string_view kKeyIdContext = "holdfast key id";

unsigned char* Bytes(char* bytes) { return reinterpret_cast<unsigned char*>(bytes); }
const unsigned char* Bytes(std::string_view bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}
int Size(std::string_view bytes) { return static_cast<int>(bytes.size()); }

void FillRandom(char* out, size_t size) {
  HF_CHECK(RAND_bytes(Bytes(out), static_cast<int>(size)) == 1);
}

// With the key in it; the nonce is given for each piece.
evp_cipher_ctx_st* NewContext(std::string_view key, bool sealing) {
  EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
  HF_CHECK(context != nullptr);
  HF_CHECK(EVP_CipherInit_ex(context, EVP_aes_256_gcm(), nullptr, Bytes(key), nullptr,
                             sealing ? 1 : 0) == 1);
  return context;
}

void SealWith(EVP_CIPHER_CTX* context, std::string_view nonce, std::string_view bound,
              std::string_view plain, char* out) {
  int size = 0;
  HF_CHECK(EVP_EncryptInit_ex(context, nullptr, nullptr, nullptr, Bytes(nonce)) == 1);
  HF_CHECK(EVP_EncryptUpdate(context, nullptr, &size, Bytes(bound), Size(bound)) == 1);
  HF_CHECK(EVP_EncryptUpdate(context, Bytes(out), &size, Bytes(plain), Size(plain)) == 1);
  HF_CHECK(EVP_EncryptFinal_ex(context, Bytes(out) + size, &size) == 1);
  HF_CHECK(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, kSealBytes, out + plain.size()) == 1);
}

bool OpenWith(EVP_CIPHER_CTX* context, std::string_view nonce, std::string_view bound,
              std::string_view sealed, char* out) {
  const std::string_view cipher_text = sealed.substr(0, sealed.size() - kSealBytes);
  std::string tag(sealed.substr(cipher_text.size()));
  int size = 0;
  return EVP_DecryptInit_ex(context, nullptr, nullptr, nullptr, Bytes(nonce)) == 1 &&
         EVP_DecryptUpdate(context, nullptr, &size, Bytes(bound), Size(bound)) == 1 &&
         EVP_DecryptUpdate(context, Bytes(out), &size, Bytes(cipher_text), Size(cipher_text)) ==
             1 &&
         EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, kSealBytes, tag.data()) == 1 &&
         EVP_DecryptFinal_ex(context, Bytes(out) + size, &size) == 1;
}

class Nonce {
 public:
  Nonce(const Salt& salt, uint32_t piece) {
    std::memcpy(bytes_.data(), salt.data(), salt.size());
    base::StoreLittle(bytes_.data() + salt.size(), piece);
  }
  [[nodiscard]] std::string_view view() const { return {bytes_.data(), bytes_.size()}; }

 private:
  std::array<char, kNonceBytes> bytes_;
};

// Empty if it is not a key.
std::string ParseKey(std::string_view text) {
  const size_t end = text.find_last_not_of(" \t\r\n");
  text = text.substr(0, end == std::string_view::npos ? 0 : end + 1);
  if (text.size() == kHexDigits) return base::FromHex(text).value_or("");
  if (text.size() != kBase64Digits || text.back() != '=' || text[text.size() - 2] == '=') return {};
  std::string decoded(kBase64Digits / 4 * 3, '\0');  // One byte of padding behind the key.
  if (EVP_DecodeBlock(Bytes(decoded.data()), Bytes(text), Size(text)) != Size(decoded)) return {};
  std::string key = decoded.substr(0, kKeyBytes);
  OPENSSL_cleanse(decoded.data(), decoded.size());
  return key;
}

}  // namespace

Salt NewSalt() {
  Salt salt;
  FillRandom(salt.data(), salt.size());
  return salt;
}

base::Result<KeyRing> KeyRing::Parse(std::span<const std::string> keys) {
  KeyRing ring;
  for (size_t i = 0; i < keys.size(); ++i) {
    MasterKey key;
    key.bytes = ParseKey(keys[i]);
    if (key.bytes.empty())
      return base::Unexpected(base::Code::kInvalid,
                              "encryption key " + std::to_string(i + 1) +
                                  ": must be 32 bytes as 64 hexadecimal digits or in Base64; make "
                                  "one with `openssl rand -base64 32`",
                              base::Event::kBadConfiguration);
    std::string named(kKeyIdContext);
    named += key.bytes;
    unsigned char digest[EVP_MAX_MD_SIZE];
    HF_CHECK(EVP_Digest(named.data(), named.size(), digest, nullptr, EVP_sha256(), nullptr) == 1);
    std::memcpy(key.id.data(), digest, key.id.size());
    OPENSSL_cleanse(named.data(), named.size());
    ring.keys_.push_back(std::move(key));
  }
  return ring;
}

SegmentKey::SegmentKey(std::string_view key, std::string wrapped)
    : wrapped_(std::move(wrapped)),
      sealing_(NewContext(key, true)),
      opening_(NewContext(key, false)) {}

SegmentKey::~SegmentKey() = default;

void SegmentKey::FreeContext::operator()(evp_cipher_ctx_st* context) const {
  EVP_CIPHER_CTX_free(context);  // Cleanses the key.
}

std::shared_ptr<SegmentKey> SegmentKey::Make(const KeyRing& ring) {
  HF_CHECK(!ring.empty());
  const KeyRing::MasterKey& master = ring.keys_.front();
  std::string key(kKeyBytes, '\0');
  FillRandom(key.data(), key.size());
  std::string wrapped(kWrappedKeyBytes, '\0');
  std::copy(master.id.begin(), master.id.end(), wrapped.begin());
  char* const nonce = wrapped.data() + master.id.size();
  FillRandom(nonce, kNonceBytes);
  const Context wrapping(NewContext(master.bytes, true));
  SealWith(wrapping.get(), {nonce, kNonceBytes}, kWrapContext, key, nonce + kNonceBytes);
  std::shared_ptr<SegmentKey> made(new SegmentKey(key, std::move(wrapped)));
  OPENSSL_cleanse(key.data(), key.size());
  return made;
}

base::Result<std::shared_ptr<SegmentKey>> SegmentKey::Unwrap(const KeyRing& ring,
                                                             std::string_view wrapped) {
  if (wrapped.size() != kWrappedKeyBytes)
    return base::Unexpected(base::Code::kCorrupt, "the segment's key is damaged");
  const std::string_view id = wrapped.substr(0, sizeof(KeyRing::KeyId));
  const auto master = std::find_if(ring.keys_.begin(), ring.keys_.end(), [&](const auto& key) {
    return std::string_view(key.id.data(), key.id.size()) == id;
  });
  if (master == ring.keys_.end()) {
    std::string given;
    for (const auto& key : ring.keys_)
      given += (given.empty() ? "" : ", ") + base::ToHex({key.id.data(), key.id.size()});
    return base::Unexpected(base::Code::kInvalid,
                            "encrypted with the key of id " + base::ToHex(id) + ", but " +
                                (given.empty() ? "no key is given" : "given is " + given) +
                                "; add it to the spool's encryption_keys, or give a command its "
                                "file (--key, of trace --spool-key)",
                            base::Event::kWrongKey);
  }
  const char* const nonce = wrapped.data() + sizeof(KeyRing::KeyId);
  std::string key(kKeyBytes, '\0');
  const Context unwrapping(NewContext(master->bytes, false));
  if (!OpenWith(unwrapping.get(), {nonce, kNonceBytes}, kWrapContext,
                wrapped.substr(sizeof(KeyRing::KeyId) + kNonceBytes), key.data()))
    return base::Unexpected(base::Code::kCorrupt, "the segment's key is damaged");
  std::shared_ptr<SegmentKey> made(new SegmentKey(key, std::string(wrapped)));
  OPENSSL_cleanse(key.data(), key.size());
  return made;
}

bool SegmentKey::IsCurrent(const KeyRing& ring) const {
  if (ring.empty()) return false;
  const KeyRing::KeyId& id = ring.keys_.front().id;
  return std::equal(id.begin(), id.end(), wrapped_.begin());
}

void SegmentKey::Seal(const Salt& salt, uint32_t piece, std::string_view context,
                      std::string_view plain, std::span<char> out) {
  HF_CHECK(out.size() == plain.size() + kSealBytes);
  SealWith(sealing_.get(), Nonce(salt, piece).view(), context, plain, out.data());
}

base::Result<void> SegmentKey::Open(const Salt& salt, uint32_t piece, std::string_view context,
                                    std::string_view sealed, std::string* plain) const {
  const Context opening(EVP_CIPHER_CTX_new());
  HF_CHECK(opening && EVP_CIPHER_CTX_copy(opening.get(), opening_.get()) == 1);
  if (sealed.size() >= kSealBytes) {
    plain->resize(sealed.size() - kSealBytes);
    if (OpenWith(opening.get(), Nonce(salt, piece).view(), context, sealed, plain->data()))
      return {};
  }
  plain->clear();
  return base::Unexpected(base::Code::kCorrupt, "encrypted data that was changed");
}

}  // namespace holdfast::spool
