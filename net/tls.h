// TLS for framed connections, on OpenSSL: which certificates a side shows and which it trusts.
//
//   HF_ASSIGN_OR_RETURN(auto tls, net::TlsCredentials::Load({.ca_location = "ca.pem"}));
//   net::FramedClient::Options{.peer = peer, .tls = tls->context()};  // Checks the peer's name.
//   net::FramedServer::Options{.tls = tls};  // For each connection the newest.
//
// TLS 1.2 is the oldest version spoken. Sessions are not resumed, so that a certificate that was
// exchanged or a CA that was taken away counts from the next connection on.
//
// Ownership: a context is immutable and lives as long as a connection uses it, so connections stay
//   when credentials are replaced.
// Threads: any.
// Limits: files are read with blocking calls: Load and Refresh belong to start-up, or to a thread
//   or timer that may wait for the disk.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/file_stamp.h"
#include "base/mutex.h"
#include "base/result.h"

struct ssl_ctx_st;

namespace holdfast::net {

struct TlsOptions {
  enum class ClientAuth : uint8_t { kNone, kRequested, kRequired };

  // PEM file, or directory of hashed ones, with the CAs that are trusted. Empty: the system's.
  std::string ca_location = {};
  // PEM files; the certificate's own first, then those between it and a CA. Empty: none is shown.
  std::string certificate_location = {};
  // Empty: the key stands in the certificate's file.
  std::string key_location = {};
  std::string key_password = {};

  // Of a client: the peer's certificate must name the host that was asked for.
  bool check_name = true;
  // Of a server.
  bool server = false;
  ClientAuth client_auth = ClientAuth::kNone;

  bool operator==(const TlsOptions&) const = default;
};

class TlsContext {
 public:
  // An error names the file and what is wrong with it.
  static base::Result<std::shared_ptr<const TlsContext>> Make(const TlsOptions& options);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  [[nodiscard]] ssl_ctx_st* get() const { return context_; }
  [[nodiscard]] bool check_name() const { return check_name_; }
  // When the first certificate of those that are shown ends, in seconds since 1970; infinity if
  // none is shown.
  [[nodiscard]] double expires_at() const { return expires_at_; }
  // Of the certificate that is shown, see DistinguishedName; none if none is shown.
  [[nodiscard]] std::optional<std::string> Subject() const;

 private:
  TlsContext(ssl_ctx_st* context, bool check_name) : context_(context), check_name_(check_name) {}

  ssl_ctx_st* const context_;
  const bool check_name_;
  double expires_at_ = std::numeric_limits<double>::infinity();
};

// A context that is made anew when its files change.
class TlsCredentials {
 public:
  static base::Result<std::shared_ptr<TlsCredentials>> Load(TlsOptions options);

  [[nodiscard]] std::shared_ptr<const TlsContext> context() const;
  // Reads the files if one of them is not the one that was read last. True: there is a new context.
  // With an error the old one stays, and the next call tries again.
  base::Result<bool> Refresh();
  // Takes over what others have read.
  void Replace(const TlsCredentials& other);

 private:
  using Stamps = std::map<std::string, base::FileStamp>;

  TlsCredentials(TlsOptions options, Stamps stamps, std::shared_ptr<const TlsContext> context)
      : options_(std::move(options)), stamps_(std::move(stamps)), context_(std::move(context)) {}
  static Stamps StampsOf(const TlsOptions& options);

  mutable base::Mutex mutex_;
  TlsOptions options_ HF_GUARDED_BY(mutex_);
  Stamps stamps_ HF_GUARDED_BY(mutex_);
  std::shared_ptr<const TlsContext> context_ HF_GUARDED_BY(mutex_);
};

}  // namespace holdfast::net
