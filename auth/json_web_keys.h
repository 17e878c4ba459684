// The public keys of who issues tokens (a JSON Web Key Set, RFC 7517), and the signatures of tokens
// under them (JWS in its compact form, RFC 7515): RS, PS and ES with 256, 384 and 512.
//
// Keys of other kinds are passed over, as are RSA keys of less than 2048 bits. A key counts for the
// tokens whose header asks for it: by its id if it names one, of the kind that the algorithm has.
//
// Threads: any; immutable.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace holdfast::auth {

// What a token is made of, decoded; nothing of it is to be believed yet.
struct JsonWebToken {
  std::string algorithm;
  std::string key_id;            // Empty: it names none.
  std::string_view signed_text;  // Of the token's own bytes.
  std::string signature;
  std::string claims;  // JSON.

  // kInvalid: it is none, or asks for what is not known here.
  static base::Result<JsonWebToken> Parse(std::string_view token);
};

class JsonWebKeys {
 public:
  // kInvalid: it is none, or has no key that can be used.
  static base::Result<std::shared_ptr<const JsonWebKeys>> Parse(std::string_view json);
  ~JsonWebKeys();
  JsonWebKeys(const JsonWebKeys&) = delete;
  JsonWebKeys& operator=(const JsonWebKeys&) = delete;

  // kNotFound: there is no key for the token. kInvalid: its signature is not right.
  [[nodiscard]] base::Result<> Verify(const JsonWebToken& token) const;
  [[nodiscard]] size_t size() const;

 private:
  struct Key;

  explicit JsonWebKeys(std::vector<Key> keys);
  const std::vector<Key> keys_;
};

}  // namespace holdfast::auth
