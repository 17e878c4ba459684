// The admission webhook as a server: reviews over HTTPS, what operators ask over HTTP, and files
// that change under it.
//
// Kubernetes exchanges the files of ConfigMaps and Secrets without a word, so they are looked at
// every two seconds: certificates are read anew here, for a new configuration `reload` is called.
//
// Ownership: loops and registry outlive it. Threads: Start, Drain and the destructor from a thread
//   that the loops do not wait for; Reload from any. Reviews are answered on the webhook's loop,
//   files are read on the admin loop.
// Shutdown: Drain turns /ready to 503 and goes on answering for kFarewell, each connection's last
//   time, until no endpoint leads here any more. The destructor closes at once.
// Limits: reviews of 3 MiB, which is the most that the API server takes of an object.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/file_stamp.h"
#include "base/mutex.h"
#include "base/result.h"
#include "inject/policy.h"
#include "metrics/catalogue.h"
#include "net/admin_server.h"
#include "net/event_loop.h"
#include "net/tls.h"

namespace holdfast::inject {

class Injector {
 public:
  static constexpr std::chrono::milliseconds kFarewell = std::chrono::seconds(3);

  struct Context {
    net::EventLoop& webhook;
    net::EventLoop& admin;
    metrics::Registry& registry;
    std::string config_file;       // Empty: none.
    std::function<bool()> reload;  // Whether the files' configuration is in use now.
  };

  // What Start would refuse of the configuration or of the files that it names, without starting
  // anything.
  static base::Result<> Check(const config::Inject& config);
  static base::Result<std::unique_ptr<Injector>> Start(const config::Inject& config,
                                                       Context context);
  ~Injector();
  Injector(const Injector&) = delete;
  Injector& operator=(const Injector&) = delete;

  base::Result<void> Reload(const config::Inject& config);
  void Drain();

  [[nodiscard]] std::string ListenAddress() const;
  [[nodiscard]] std::string AdminAddress() const;  // Empty: none.

 private:
  // Of the files that a configuration comes from.
  using Stamps = std::array<base::FileStamp, 2>;

  explicit Injector(Context context);
  base::Result<void> Listen(const config::Inject& config);
  net::AdminResponse Review(const net::AdminRequest& request);
  std::vector<net::AdminRoute> AdminRoutes();
  [[nodiscard]] std::shared_ptr<const Policy> policy() const;
  [[nodiscard]] Stamps StampsOf(const config::Inject& config) const;
  void LookAtFilesLater();
  void LookAtFiles();

  const Context context_;
  metrics::InjectMetrics metrics_;
  std::atomic<bool> draining_{false};
  std::shared_ptr<net::TlsCredentials> tls_;
  mutable base::Mutex mutex_;
  std::shared_ptr<const Policy> policy_ HF_GUARDED_BY(mutex_);
  std::unique_ptr<net::AdminServer> webhook_;
  std::unique_ptr<net::AdminServer> admin_;
  Stamps stamps_;     // Of the admin loop.
  base::Timer look_;  // As well.
};

}  // namespace holdfast::inject
