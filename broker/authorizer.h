// Who may do what: the rules of broker/acls.h with the broker's settings for them.
//
// Authorizer is one loop's: it remembers its answers until the rules change, so that what a client
// does all the time costs one hash look-up. Judge is the same without memory, as of one moment, for
// who answers on another thread.
//
// Threads: Judge any; an Authorizer belongs to one.
// Limits: what is remembered takes kRememberedBytesMax, about; names may have any length.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "broker/acls.h"
#include "broker/published.h"
#include "kafka/dispatch.h"

namespace holdfast::broker {

struct AuthorizerOptions {
  bool enabled = false;                  // Everybody may do everything, and rules cannot be made.
  std::vector<std::string> super_users;  // "User:admin"; they may do everything.
  bool allow_everyone_if_no_acl_found = false;
};

class Judge {
 public:
  Judge(std::shared_ptr<const Acls> acls, const AuthorizerOptions& options)
      : acls_(std::move(acls)), options_(options) {}

  [[nodiscard]] bool Allows(const Subject& subject, AclOperation operation, ResourceType type,
                            std::string_view name) const;
  // On some resource of the type.
  [[nodiscard]] bool AllowsSome(const Subject& subject, AclOperation operation,
                                ResourceType type) const;
  // What is allowed there, as bits: 1 << operation.
  [[nodiscard]] int32_t Operations(const Subject& subject, ResourceType type,
                                   std::string_view name) const;

 private:
  [[nodiscard]] bool IsSuperUser(std::string_view principal) const;

  std::shared_ptr<const Acls> acls_;
  const AuthorizerOptions& options_;
};

class Authorizer {
 public:
  static constexpr size_t kRememberedBytesMax = size_t{8} << 20;  // Some 50,000 usual questions.

  Authorizer(const Published<Acls>& acls, const AuthorizerOptions& options);

  void Refresh();
  [[nodiscard]] bool enabled() const { return options_.enabled; }
  [[nodiscard]] bool Allows(const kafka::Caller& caller, AclOperation operation, ResourceType type,
                            std::string_view name);
  [[nodiscard]] size_t remembered_bytes() const { return remembered_bytes_; }
  // Of the rules as they were refreshed last.
  [[nodiscard]] uint64_t version() const { return acls_.version(); }
  [[nodiscard]] const std::shared_ptr<const Judge>& judge() const { return judge_; }

  static Subject SubjectOf(const kafka::Caller& caller) {
    return {caller.peer->principal, caller.peer->address};
  }

 private:
  static constexpr size_t kAnswerBytes = 100;  // What one takes besides the question's text.

  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };

  void Forget();

  const AuthorizerOptions& options_;
  PublishedReader<Acls> acls_;
  std::shared_ptr<const Judge> judge_;
  std::unordered_map<std::string, bool, Hash, std::equal_to<>> answers_;
  size_t remembered_bytes_ = 0;
  std::string question_;  // Kept for its memory.
};

}  // namespace holdfast::broker
