// SASL (RFC 4422) as Kafka uses it: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER as state
// machines over messages. How the messages travel is the caller's business.
//
//   HF_ASSIGN_OR_RETURN(auto client, net::SaslClient::Make(credentials));
//   std::string message = client->First();
//   ...                                                    // The server answers.
//   HF_ASSIGN_OR_RETURN(auto next, client->Next(answer));  // Null: authenticated.
//
// Messages hold secrets: they are not to be logged. Errors do not hold any.
//
// Threads: one at a time; SaslUsers, SaslTokens and SaltedPassword any.
// Limits: of a server's SCRAM iterations at most kScramIterationsMax are computed, since a loop
//   waits for them. A SCRAM message of a client has at most 4 KiB, since a server keeps it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"

namespace holdfast::net {

enum class SaslMechanism : uint8_t { kPlain, kScramSha256, kScramSha512, kOauthBearer };

// As on the wire: "SCRAM-SHA-256".
std::string_view SaslName(SaslMechanism mechanism);
std::optional<SaslMechanism> ParseSaslMechanism(std::string_view name);

// What SCRAM makes of one password by thousands of hashes, for the newest salt and number of them:
// a server rarely changes these, and a connection need not pay for them again (RFC 5802, 5.1).
class SaltedPassword {
 public:
  explicit SaltedPassword(std::string password) : password_(std::move(password)) {}
  [[nodiscard]] std::string Of(SaslMechanism mechanism, std::string_view salt, int iterations);

 private:
  const std::string password_;
  base::Mutex mutex_;
  SaslMechanism mechanism_ HF_GUARDED_BY(mutex_) = SaslMechanism::kScramSha256;
  std::string salt_ HF_GUARDED_BY(mutex_);
  int iterations_ HF_GUARDED_BY(mutex_) = 0;
  std::string salted_ HF_GUARDED_BY(mutex_);
};

// What a client proves itself with.
struct SaslCredentials {
  SaslMechanism mechanism = SaslMechanism::kPlain;
  std::string username = {};
  std::string password = {};
  // Of OAUTHBEARER: the file that holds the token. It is read for each exchange, since tokens are
  // short-lived.
  std::string token_file = {};
  std::vector<std::pair<std::string, std::string>> extensions = {};  // Of OAUTHBEARER.
  // Of SCRAM, for all exchanges with this password. None: each makes its own.
  std::shared_ptr<SaltedPassword> salted_password = nullptr;
};

// Whom the bearer token in the file names: its issuer and its subject, if it is a JSON Web Token
// that has one. Nothing of it is checked, which is for who is shown it.
struct TokenName {
  std::string issuer;
  std::string subject;
};
std::optional<TokenName> ReadTokenName(const std::string& token_file);

// One exchange, from the client's side.
class SaslClient {
 public:
  static base::Result<std::unique_ptr<SaslClient>> Make(const SaslCredentials& credentials);
  virtual ~SaslClient() = default;

  virtual std::string First() = 0;
  // What to answer; null when the exchange is complete and the server has proved itself as far as
  // the mechanism asks for it.
  virtual base::Result<std::optional<std::string>> Next(std::string_view challenge) = 0;
};

inline constexpr int kScramIterationsMax = 100'000;

// What a server keeps of a password, for one hash.
struct ScramSecret {
  std::string salt;
  int iterations = 0;
  std::string stored_key;
  std::string server_key;
};

// Of a password on which SCRAM's many hashes were done already, as Kafka's admin calls carry it.
ScramSecret ScramSecretOf(SaslMechanism mechanism, std::string_view salted_password,
                          std::string salt, int iterations);

// Who may come in.
class SaslUsers {
 public:
  struct User {
    std::string name;
    std::string password;
  };
  static constexpr size_t kSaltKeyBytes = 32;
  static std::string NewSaltKey();
  // Those and nobody else. All salts are made of the name and the secret key, whether there is such
  // a user or not: who compares them under the same key, or under two, does not learn which.
  static std::shared_ptr<const SaslUsers> Make(const std::vector<User>& users,
                                               std::string salt_key = NewSaltKey());
  virtual ~SaslUsers() = default;

  [[nodiscard]] virtual bool IsPassword(std::string_view user, std::string_view password) const = 0;
  // Of an unknown user a secret that fits no password, so that nobody can tell.
  [[nodiscard]] virtual ScramSecret SecretOf(std::string_view user,
                                             SaslMechanism mechanism) const = 0;
};

// Whom a bearer token names.
class SaslTokens {
 public:
  struct Bearer {
    std::string name;
    int64_t expires_at_ms = 0;  // Of the token, since the Unix epoch.
  };
  virtual ~SaslTokens() = default;

  // An error says what is wrong with the token, for the log: it holds nothing of the token's.
  [[nodiscard]] virtual base::Result<Bearer> Check(std::string_view token,
                                                   int64_t now_ms) const = 0;
};

// One exchange, from the server's side.
class SaslServer {
 public:
  struct Step {
    std::string answer;
    bool done = false;  // The client is who `user` says.
  };

  // PLAIN and SCRAM.
  static std::unique_ptr<SaslServer> Make(SaslMechanism mechanism,
                                          std::shared_ptr<const SaslUsers> users);
  // OAUTHBEARER. A token that is refused is answered as RFC 7628 has it, with why in JSON; the
  // error follows upon the client's next message.
  static std::unique_ptr<SaslServer> Make(std::shared_ptr<const SaslTokens> tokens);
  virtual ~SaslServer() = default;

  // An error (kInvalid) may be shown to the client: it does not say what exactly was wrong.
  virtual base::Result<Step> Next(std::string_view message) = 0;
  // Once done.
  [[nodiscard]] virtual const std::string& user() const = 0;
  // Once done: when what the client has shown ends, in milliseconds since the Unix epoch. None:
  // never.
  [[nodiscard]] virtual std::optional<int64_t> expires_at_ms() const { return std::nullopt; }
};

}  // namespace holdfast::net
