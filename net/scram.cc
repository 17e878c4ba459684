#include "net/scram.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/base64.h"
#include "base/check.h"

namespace holdfast::net {
namespace {

using base::Code;

constexpr int kScramIterationsMin = 4096;
// Of a client's message: several copies of the first are kept while the second is waited for.
constexpr size_t kClientMessageBytesMax = 4096;
// GS2 header: no channel binding, no other identity. Then in Base64, as the last message has it.
constexpr std::string_view kHeader = "n,,";
constexpr std::string_view kHeaderInFinal = "c=biws";

const unsigned char* Bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

const EVP_MD* HashOf(SaslMechanism mechanism) {
  return mechanism == SaslMechanism::kScramSha512 ? EVP_sha512() : EVP_sha256();
}

std::string Hash(SaslMechanism mechanism, std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned int size = 0;
  HF_CHECK(EVP_Digest(text.data(), text.size(), digest.data(), &size, HashOf(mechanism), nullptr) ==
           1);
  return {reinterpret_cast<const char*>(digest.data()), size};
}

std::string Salted(SaslMechanism mechanism, std::string_view password, std::string_view salt,
                   int iterations) {
  std::string salted(static_cast<size_t>(EVP_MD_get_size(HashOf(mechanism))), '\0');
  HF_CHECK(PKCS5_PBKDF2_HMAC(password.data(), static_cast<int>(password.size()), Bytes(salt),
                             static_cast<int>(salt.size()), iterations, HashOf(mechanism),
                             static_cast<int>(salted.size()),
                             reinterpret_cast<unsigned char*>(salted.data())) == 1);
  return salted;
}

std::string Xor(std::string a, std::string_view b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<char>(a[i] ^ b[i]);
  return a;
}

// "=" and "," have a meaning in the messages.
std::string EscapeName(std::string_view name) {
  std::string escaped;
  for (const char c : name) {
    if (c == '=') {
      escaped += "=3D";
    } else if (c == ',') {
      escaped += "=2C";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::optional<std::string> UnescapeName(std::string_view escaped) {
  std::string name;
  for (size_t i = 0; i < escaped.size(); ++i) {
    if (escaped[i] != '=') {
      name += escaped[i];
    } else if (escaped.substr(i, 3) == "=3D" || escaped.substr(i, 3) == "=2C") {
      name += escaped[i + 1] == '3' ? '=' : ',';
      i += 2;
    } else {
      return std::nullopt;
    }
  }
  return name;
}

// Takes "<key>=value" from the front of the message, with the comma behind it.
std::optional<std::string_view> TakeAttribute(std::string_view& message, char key) {
  if (message.size() < 2 || message[0] != key || message[1] != '=') return std::nullopt;
  const size_t end = std::min(message.find(','), message.size());
  const std::string_view value = message.substr(2, end - 2);
  message.remove_prefix(std::min(end + 1, message.size()));
  return value;
}

std::string_view Bare(std::string_view client_first) { return client_first.substr(kHeader.size()); }

class ScramClient final : public SaslClient {
 public:
  ScramClient(SaslMechanism mechanism, std::string user, std::shared_ptr<SaltedPassword> password,
              std::string nonce)
      : mechanism_(mechanism),
        password_(std::move(password)),
        nonce_(std::move(nonce)),
        first_(std::string(kHeader) + "n=" + EscapeName(user) + ",r=" + nonce_) {}

  std::string First() override { return first_; }

  base::Result<std::optional<std::string>> Next(std::string_view challenge) override {
    if (server_signature_.empty()) return Prove(challenge);
    std::string_view rest = challenge;
    if (const auto error = TakeAttribute(rest, 'e'))
      return base::Unexpected(Code::kInvalid, "the server refused: " + std::string(*error));
    const auto verifier = TakeAttribute(rest, 'v');
    const auto signature = verifier ? base::FromBase64(*verifier) : std::nullopt;
    if (!signature || !SameSecret(*signature, server_signature_)) {
      return base::Unexpected(Code::kInvalid,
                              "the server did not prove that it knows the password");
    }
    return std::optional<std::string>();
  }

 private:
  base::Result<std::optional<std::string>> Prove(std::string_view server_first) {
    std::string_view rest = server_first;
    const auto nonce = TakeAttribute(rest, 'r');
    const auto salt_text = TakeAttribute(rest, 's');
    const auto iterations_text = TakeAttribute(rest, 'i');
    const auto salt = salt_text ? base::FromBase64(*salt_text) : std::nullopt;
    int iterations = 0;
    if (iterations_text) {
      std::from_chars(iterations_text->data(), iterations_text->data() + iterations_text->size(),
                      iterations);
    }
    if (!nonce || !salt || salt->empty() || !nonce->starts_with(nonce_) ||
        nonce->size() == nonce_.size())
      return base::Unexpected(Code::kInvalid, "the server's first SCRAM message is malformed");
    if (iterations < kScramIterationsMin || iterations > kScramIterationsMax) {
      return base::Unexpected(
          Code::kInvalid, "the server asks for " + std::to_string(iterations) +
                              " SCRAM iterations, where " + std::to_string(kScramIterationsMin) +
                              " to " + std::to_string(kScramIterationsMax) + " are taken");
    }
    const std::string salted = password_->Of(mechanism_, *salt, iterations);
    const std::string client_key = ScramHmac(mechanism_, salted, "Client Key");
    std::string last = std::string(kHeaderInFinal) + ",r=" + std::string(*nonce);
    const std::string all =
        std::string(Bare(first_)) + "," + std::string(server_first) + "," + last;
    const std::string signature = ScramHmac(mechanism_, Hash(mechanism_, client_key), all);
    server_signature_ = ScramHmac(mechanism_, ScramHmac(mechanism_, salted, "Server Key"), all);
    return last + ",p=" + base::ToBase64(Xor(client_key, signature));
  }

  const SaslMechanism mechanism_;
  const std::shared_ptr<SaltedPassword> password_;
  const std::string nonce_;
  const std::string first_;
  std::string server_signature_;
};

class ScramServer final : public SaslServer {
 public:
  ScramServer(SaslMechanism mechanism, std::shared_ptr<const SaslUsers> users, std::string nonce)
      : mechanism_(mechanism), users_(std::move(users)), nonce_(std::move(nonce)) {}

  base::Result<Step> Next(std::string_view message) override {
    if (message.size() > kClientMessageBytesMax) return Malformed();
    return server_first_.empty() ? Challenge(message) : Judge(message);
  }
  [[nodiscard]] const std::string& user() const override { return user_; }

 private:
  static base::Result<Step> Malformed() {
    return base::Unexpected(Code::kInvalid, "malformed SCRAM message");
  }

  base::Result<Step> Challenge(std::string_view message) {
    // "n,," or "n,a=name,": the authorization identity may only repeat the name.
    if (!message.starts_with("n,")) return Malformed();
    const size_t comma = message.find(',', 2);
    if (comma == std::string_view::npos) return Malformed();
    const std::string_view header = message.substr(0, comma + 1);
    client_first_bare_ = message.substr(comma + 1);
    std::string_view rest = client_first_bare_;
    const auto name = TakeAttribute(rest, 'n');
    const auto nonce = TakeAttribute(rest, 'r');
    auto user = name ? UnescapeName(*name) : std::nullopt;
    if (!user || user->empty() || !nonce || nonce->empty()) return Malformed();
    if (header != kHeader && header != "n,a=" + std::string(*name) + ",") {
      return base::Unexpected(Code::kInvalid, "one user cannot act for another");
    }
    header_ = base::ToBase64(header);
    user_ = *std::move(user);
    secret_ = users_->SecretOf(user_, mechanism_);
    server_first_ = "r=" + std::string(*nonce) + nonce_ + ",s=" + base::ToBase64(secret_.salt) +
                    ",i=" + std::to_string(secret_.iterations);
    return Step{server_first_, false};
  }

  base::Result<Step> Judge(std::string_view message) {
    const size_t proof_at = message.rfind(",p=");
    if (proof_at == std::string_view::npos) return Malformed();
    const auto proof = base::FromBase64(message.substr(proof_at + 3));
    const std::string_view without_proof = message.substr(0, proof_at);
    // The nonce need only end with ours, as in Kafka: librdkafka before 2.6 begins it with its own
    // twice. The proof covers it all.
    std::string_view rest = without_proof;
    const auto header = TakeAttribute(rest, 'c');
    const auto nonce = TakeAttribute(rest, 'r');
    if (!proof || proof->size() != secret_.stored_key.size() || !header || *header != header_ ||
        !nonce || !nonce->ends_with(nonce_)) {
      return Malformed();
    }
    const std::string all =
        client_first_bare_ + "," + server_first_ + "," + std::string(without_proof);
    const std::string signature = ScramHmac(mechanism_, secret_.stored_key, all);
    if (!SameSecret(Hash(mechanism_, Xor(*proof, signature)), secret_.stored_key))
      return base::Unexpected(Code::kInvalid, "wrong user name or password");
    return Step{"v=" + base::ToBase64(ScramHmac(mechanism_, secret_.server_key, all)), true};
  }

  const SaslMechanism mechanism_;
  const std::shared_ptr<const SaslUsers> users_;
  const std::string nonce_;
  std::string user_;
  ScramSecret secret_;
  std::string header_;  // As the last message has to repeat it.
  std::string client_first_bare_;
  std::string server_first_;
};

}  // namespace

std::string SaltedPassword::Of(SaslMechanism mechanism, std::string_view salt, int iterations) {
  {
    const base::MutexLock lock(mutex_);
    if (mechanism == mechanism_ && salt == salt_ && iterations == iterations_) return salted_;
  }
  std::string salted = Salted(mechanism, password_, salt, iterations);
  const base::MutexLock lock(mutex_);
  mechanism_ = mechanism;
  salt_ = salt;
  iterations_ = iterations;
  salted_ = salted;
  return salted;
}

std::unique_ptr<SaslClient> MakeScramClient(SaslMechanism mechanism, std::string user,
                                            std::shared_ptr<SaltedPassword> password,
                                            std::string nonce) {
  return std::make_unique<ScramClient>(mechanism, std::move(user), std::move(password),
                                       std::move(nonce));
}

std::unique_ptr<SaslServer> MakeScramServer(SaslMechanism mechanism,
                                            std::shared_ptr<const SaslUsers> users,
                                            std::string nonce) {
  return std::make_unique<ScramServer>(mechanism, std::move(users), std::move(nonce));
}

ScramSecret MakeScramSecret(SaslMechanism mechanism, std::string_view password, std::string salt,
                            int iterations) {
  const std::string salted = Salted(mechanism, password, salt, iterations);
  return ScramSecretOf(mechanism, salted, std::move(salt), iterations);
}

ScramSecret ScramSecretOf(SaslMechanism mechanism, std::string_view salted_password,
                          std::string salt, int iterations) {
  return {.salt = std::move(salt),
          .iterations = iterations,
          .stored_key = Hash(mechanism, ScramHmac(mechanism, salted_password, "Client Key")),
          .server_key = ScramHmac(mechanism, salted_password, "Server Key")};
}

std::string NewScramNonce() { return base::ToBase64(RandomBytes(18)); }

std::string RandomBytes(size_t size) {
  std::string bytes(size, '\0');
  HF_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(size)) == 1);
  return bytes;
}

std::string ScramHmac(SaslMechanism mechanism, std::string_view key, std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned int size = 0;
  HF_CHECK(HMAC(HashOf(mechanism), key.data(), static_cast<int>(key.size()), Bytes(text),
                text.size(), digest.data(), &size) != nullptr);
  return {reinterpret_cast<const char*>(digest.data()), size};
}

bool SameSecret(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace holdfast::net
