#include "net/sasl.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/base64.h"
#include "base/check.h"
#include "base/event.h"
#include "base/log.h"
#include "net/scram.h"

namespace holdfast::net {
namespace {

using base::Code;

constexpr std::array<std::pair<SaslMechanism, std::string_view>, 4> kNames{{
    {SaslMechanism::kPlain, "PLAIN"},
    {SaslMechanism::kScramSha256, "SCRAM-SHA-256"},
    {SaslMechanism::kScramSha512, "SCRAM-SHA-512"},
    {SaslMechanism::kOauthBearer, "OAUTHBEARER"},
}};
// What Kafka gives to new SCRAM credentials.
constexpr int kScramIterations = 4096;
constexpr size_t kSaltBytes = 18;
constexpr size_t kTokenBytesMax = 65536;

class PlainClient final : public SaslClient {
 public:
  explicit PlainClient(const SaslCredentials& credentials) {
    message_.push_back('\0');
    message_ += credentials.username;
    message_.push_back('\0');
    message_ += credentials.password;
  }
  std::string First() override { return message_; }
  base::Result<std::optional<std::string>> Next(std::string_view /*challenge*/) override {
    return std::optional<std::string>();
  }

 private:
  std::string message_;
};

// RFC 7628. A server that refuses says why in its answer, which the client acknowledges before
// the server ends the exchange with an error.
class OauthBearerClient final : public SaslClient {
 public:
  OauthBearerClient(const std::string& token, const SaslCredentials& credentials) {
    message_ =
        "n,,\x01"
        "auth=Bearer " +
        token;
    for (const auto& [name, value] : credentials.extensions)
      message_ += '\x01' + name + '=' + value;
    message_ += "\x01\x01";
  }
  std::string First() override { return message_; }
  base::Result<std::optional<std::string>> Next(std::string_view challenge) override {
    if (challenge.empty()) return std::optional<std::string>();
    if (std::exchange(refused_, true))
      return base::Unexpected(Code::kInvalid, "the server refused the token");
    return std::optional<std::string>("\x01");
  }

 private:
  std::string message_;
  bool refused_ = false;
};

class PlainServer final : public SaslServer {
 public:
  explicit PlainServer(std::shared_ptr<const SaslUsers> users) : users_(std::move(users)) {}

  // [authorization identity] NUL user NUL password
  base::Result<Step> Next(std::string_view message) override {
    const size_t first = message.find('\0');
    const size_t second = first == message.npos ? first : message.find('\0', first + 1);
    if (second == message.npos || message.find('\0', second + 1) != message.npos)
      return base::Unexpected(Code::kInvalid, "malformed PLAIN message");
    const std::string_view acting_for = message.substr(0, first);
    const std::string_view user = message.substr(first + 1, second - first - 1);
    if (!acting_for.empty() && acting_for != user)
      return base::Unexpected(Code::kInvalid, "one user cannot act for another");
    if (!users_->IsPassword(user, message.substr(second + 1)))
      return base::Unexpected(Code::kInvalid, "wrong user name or password");
    user_ = user;
    return Step{"", true};
  }
  [[nodiscard]] const std::string& user() const override { return user_; }

 private:
  const std::shared_ptr<const SaslUsers> users_;
  std::string user_;
};

// The client's message of RFC 7628, section 3.1: "n,[a=NAME],", and then pairs, each of which ends
// with 0x01 as the whole does. Other pairs than "auth" are extensions, which mean nothing here.
struct BearerMessage {
  std::string_view acting_for;
  std::string_view token;
};

bool IsTokenText(std::string_view text) {
  const size_t end = std::min(text.find_last_not_of('='), text.size() - 1);
  return !text.empty() && text[0] != '=' &&
         std::ranges::all_of(text.substr(0, end + 1), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  std::string_view("-._~+/").find(c) != std::string_view::npos;
         });
}

std::optional<BearerMessage> ParseBearerMessage(std::string_view message) {
  constexpr std::string_view kScheme = "bearer";
  constexpr char kEnd = '\x01';
  BearerMessage parsed;
  const size_t header = message.find(kEnd);
  if (header == message.npos || !message.starts_with("n,") || message[header - 1] != ',')
    return std::nullopt;
  if (header > 3) {
    if (message.substr(2, 2) != "a=") return std::nullopt;
    parsed.acting_for = message.substr(4, header - 5);
    if (parsed.acting_for.empty() || parsed.acting_for.find(',') != message.npos)
      return std::nullopt;
  } else if (header != 3) {
    return std::nullopt;
  }
  message.remove_prefix(header + 1);
  if (!message.ends_with(kEnd)) return std::nullopt;
  message.remove_suffix(1);
  while (!message.empty()) {
    const size_t end = message.find(kEnd);
    if (end == message.npos) return std::nullopt;
    const std::string_view pair = message.substr(0, end);
    message.remove_prefix(end + 1);
    const size_t equals = pair.find('=');
    if (equals == 0 || equals == pair.npos) return std::nullopt;
    if (pair.substr(0, equals) != "auth") continue;
    std::string_view value = pair.substr(equals + 1);
    const bool bearer = value.size() > kScheme.size() && value[kScheme.size()] == ' ' &&
                        std::ranges::equal(value.substr(0, kScheme.size()), kScheme,
                                           [](char a, char b) { return (a | 0x20) == b; });
    if (!bearer || !parsed.token.empty()) return std::nullopt;
    value.remove_prefix(std::min(value.find_first_not_of(' ', kScheme.size()), value.size()));
    if (!IsTokenText(value)) return std::nullopt;
    parsed.token = value;
  }
  if (parsed.token.empty()) return std::nullopt;
  return parsed;
}

class OauthBearerServer final : public SaslServer {
 public:
  explicit OauthBearerServer(std::shared_ptr<const SaslTokens> tokens)
      : tokens_(std::move(tokens)) {}

  base::Result<Step> Next(std::string_view message) override {
    // As Apache Kafka has it in the answer, and in the error that follows.
    constexpr std::string_view kRefusal = R"({"status":"invalid_token"})";
    if (refused_) return base::Unexpected(Code::kInvalid, std::string(kRefusal));
    const auto parsed = ParseBearerMessage(message);
    if (!parsed) return base::Unexpected(Code::kInvalid, "malformed OAUTHBEARER message");
    const int64_t now_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                               std::chrono::system_clock::now().time_since_epoch())
                               .count();
    auto bearer = tokens_->Check(parsed->token, now_ms);
    if (!bearer) {
      base::Log(base::Event::kTokenRefused, "sasl", "refused a token: {}", bearer.error().message);
      refused_ = true;
      return Step{std::string(kRefusal), false};
    }
    if (!parsed->acting_for.empty() && parsed->acting_for != bearer->name)
      return base::Unexpected(Code::kInvalid, "one user cannot act for another");
    bearer_ = *std::move(bearer);
    return Step{"", true};
  }
  [[nodiscard]] const std::string& user() const override { return bearer_.name; }
  [[nodiscard]] std::optional<int64_t> expires_at_ms() const override {
    return bearer_.expires_at_ms;
  }

 private:
  const std::shared_ptr<const SaslTokens> tokens_;
  SaslTokens::Bearer bearer_;
  bool refused_ = false;
};

class FixedUsers final : public SaslUsers {
 public:
  FixedUsers(const std::vector<User>& users, std::string salt_key)
      : salt_key_(std::move(salt_key)) {
    for (const User& user : users) {
      const auto secret = [&](SaslMechanism mechanism) {
        return MakeScramSecret(mechanism, user.password, SaltOf(user.name, mechanism),
                               kScramIterations);
      };
      users_[user.name] = {.password = user.password,
                           .sha256 = secret(SaslMechanism::kScramSha256),
                           .sha512 = secret(SaslMechanism::kScramSha512)};
    }
  }

  [[nodiscard]] bool IsPassword(std::string_view user, std::string_view password) const override {
    const auto found = users_.find(user);
    // An unknown user's password is compared as well, with one that nobody has.
    const std::string& right = found == users_.end() ? salt_key_ : found->second.password;
    return SameSecret(right, password) && found != users_.end();
  }

  [[nodiscard]] ScramSecret SecretOf(std::string_view user,
                                     SaslMechanism mechanism) const override {
    const auto found = users_.find(user);
    if (found != users_.end()) {
      return mechanism == SaslMechanism::kScramSha512 ? found->second.sha512 : found->second.sha256;
    }
    std::string salt = SaltOf(user, mechanism);
    const std::string nobody = ScramHmac(mechanism, salt_key_, salt);
    return {.salt = std::move(salt),
            .iterations = kScramIterations,
            .stored_key = nobody,
            .server_key = nobody};
  }

 private:
  struct Known {
    std::string password;
    ScramSecret sha256;
    ScramSecret sha512;
  };

  [[nodiscard]] std::string SaltOf(std::string_view user, SaslMechanism mechanism) const {
    const std::string of = std::string(SaslName(mechanism)) + '\0' + std::string(user);
    return ScramHmac(SaslMechanism::kScramSha256, salt_key_, of).substr(0, kSaltBytes);
  }

  const std::string salt_key_;
  std::map<std::string, Known, std::less<>> users_;
};

base::Result<std::string> ReadToken(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  std::string token(kTokenBytesMax, '\0');
  if (in) in.read(token.data(), static_cast<std::streamsize>(token.size()));
  if (!in.eof()) {
    if (!in) return base::Unexpected(base::ErrnoError("cannot read the token in " + file, errno));
    return base::Unexpected(Code::kInvalid, "the token in " + file + " is too long");
  }
  token.resize(static_cast<size_t>(in.gcount()));
  while (!token.empty() && static_cast<unsigned char>(token.back()) <= ' ') token.pop_back();
  const bool printable = std::ranges::all_of(token, [](char c) { return c > ' ' && c <= '~'; });
  if (token.empty() || !printable)
    return base::Unexpected(Code::kInvalid, file + " does not hold a token in one line");
  return token;
}

}  // namespace

std::string_view SaslName(SaslMechanism mechanism) {
  return std::ranges::find(kNames, mechanism, [](const auto& each) { return each.first; })->second;
}

std::optional<SaslMechanism> ParseSaslMechanism(std::string_view name) {
  for (const auto& [mechanism, known] : kNames) {
    if (known == name) return mechanism;
  }
  return std::nullopt;
}

base::Result<std::unique_ptr<SaslClient>> SaslClient::Make(const SaslCredentials& credentials) {
  switch (credentials.mechanism) {
    case SaslMechanism::kPlain:
      return std::make_unique<PlainClient>(credentials);
    case SaslMechanism::kScramSha256:
    case SaslMechanism::kScramSha512:
      return MakeScramClient(credentials.mechanism, credentials.username,
                             credentials.salted_password
                                 ? credentials.salted_password
                                 : std::make_shared<SaltedPassword>(credentials.password),
                             NewScramNonce());
    case SaslMechanism::kOauthBearer:
      break;
  }
  HF_ASSIGN_OR_RETURN(const std::string token, ReadToken(credentials.token_file));
  return std::make_unique<OauthBearerClient>(token, credentials);
}

std::optional<TokenName> ReadTokenName(const std::string& token_file) {
  const auto token = ReadToken(token_file);
  if (!token) return std::nullopt;
  const size_t begin = token->find('.') + 1;
  const size_t end = token->find('.', begin);
  if (begin == 0 || end == std::string::npos) return std::nullopt;
  std::string claims = token->substr(begin, end - begin);
  std::ranges::replace(claims, '-', '+');
  std::ranges::replace(claims, '_', '/');
  claims.append((4 - claims.size() % 4) % 4, '=');
  const auto text = base::FromBase64(claims);
  const auto json = nlohmann::json::parse(text.value_or(""), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  const auto claim = [&json](const char* name) {
    const auto found = json.find(name);
    return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  TokenName name{.issuer = claim("iss"), .subject = claim("sub")};
  if (name.subject.empty()) return std::nullopt;
  return name;
}

std::string SaslUsers::NewSaltKey() { return RandomBytes(kSaltKeyBytes); }

std::shared_ptr<const SaslUsers> SaslUsers::Make(const std::vector<User>& users,
                                                 std::string salt_key) {
  return std::make_shared<FixedUsers>(users, std::move(salt_key));
}

std::unique_ptr<SaslServer> SaslServer::Make(SaslMechanism mechanism,
                                             std::shared_ptr<const SaslUsers> users) {
  HF_CHECK(mechanism != SaslMechanism::kOauthBearer);
  if (mechanism == SaslMechanism::kPlain) return std::make_unique<PlainServer>(std::move(users));
  return MakeScramServer(mechanism, std::move(users), NewScramNonce());
}

std::unique_ptr<SaslServer> SaslServer::Make(std::shared_ptr<const SaslTokens> tokens) {
  return std::make_unique<OauthBearerServer>(std::move(tokens));
}

}  // namespace holdfast::net
