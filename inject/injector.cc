#include "inject/injector.h"

#include <future>
#include <utility>

#include "base/event.h"
#include "base/log.h"
#include "inject/review.h"
#include "net/logging_routes.h"

namespace holdfast::inject {
namespace {

using base::LogLevel;
using net::AdminRequest;
using net::AdminResponse;
using net::HttpMethod;

constexpr const char* kPart = "inject";
constexpr base::Duration kLookEvery = std::chrono::seconds(2);
constexpr size_t kReviewBytesMax = size_t{3} << 20;
// The API server keeps idle connections for 90 s: it is to be the one that ends them.
constexpr std::chrono::seconds kIdleTimeout(120);
constexpr int kUnavailable = 503;

void Log(const Answer& answer) {
  if (answer.outcome == Outcome::kRefused) {
    base::Log(base::Event::kPodRefused, {kPart, answer.pod}, "refused: {}", answer.note);
  } else if (answer.outcome == Outcome::kMalformed) {
    base::Log(base::Event::kNotAReview, kPart, "a request that is no review: {}", answer.note);
  } else {
    base::Log(LogLevel::kDebug, kPart, "{} pod {}", OutcomeName(answer.outcome), answer.pod);
  }
}

base::Result<std::shared_ptr<net::TlsCredentials>> LoadTls(const config::Inject& config) {
  return net::TlsCredentials::Load({.certificate_location = config.tls().certificate(),
                                    .key_location = config.tls().key(),
                                    .server = true});
}

}  // namespace

base::Result<> Injector::Check(const config::Inject& config) {
  HF_RETURN_IF_ERROR(Policy::Load(config));
  HF_RETURN_IF_ERROR(LoadTls(config));
  return {};
}

base::Result<std::unique_ptr<Injector>> Injector::Start(const config::Inject& config,
                                                        Context context) {
  std::unique_ptr<Injector> injector(new Injector(std::move(context)));
  HF_RETURN_IF_ERROR(injector->Listen(config));
  return injector;
}

Injector::Injector(Context context) : context_(std::move(context)), metrics_(context_.registry) {
  for (const Outcome outcome : {Outcome::kInjected, Outcome::kUnchanged, Outcome::kSkipped,
                                Outcome::kRefused, Outcome::kMalformed})
    metrics_.reviews.With(OutcomeName(outcome));
}

Injector::~Injector() {
  context_.admin.RunAndWait([this] { look_.Cancel(); });
  webhook_.reset();
  admin_.reset();
}

base::Result<void> Injector::Listen(const config::Inject& config) {
  stamps_ = StampsOf(config);
  HF_RETURN_IF_ERROR(Reload(config));
  HF_ASSIGN_OR_RETURN(const net::HostPort listen, net::HostPort::Parse(config.listen()));
  HF_ASSIGN_OR_RETURN(tls_, LoadTls(config));
  metrics_.certificate_expiry_timestamp_seconds.Set(tls_->context()->expires_at());
  std::vector<net::AdminRoute> routes;
  routes.push_back({.method = HttpMethod::kPost,
                    .path = "/mutate",
                    .help = "answers an AdmissionReview of admission.k8s.io/v1",
                    .handler = [this](const AdminRequest& request) { return Review(request); },
                    .for_everybody = true});
  HF_ASSIGN_OR_RETURN(webhook_, net::AdminServer::Listen(context_.webhook,
                                                         {.listen = listen,
                                                          .body_bytes_max = kReviewBytesMax,
                                                          .idle_timeout = kIdleTimeout,
                                                          .tls = tls_},
                                                         std::move(routes)));
  if (!config.admin().empty()) {
    HF_ASSIGN_OR_RETURN(const net::HostPort admin, net::HostPort::Parse(config.admin()));
    HF_ASSIGN_OR_RETURN(admin_,
                        net::AdminServer::Listen(context_.admin, {.listen = admin}, AdminRoutes()));
  }
  context_.admin.RunAndWait([this] { LookAtFilesLater(); });
  return {};
}

base::Result<void> Injector::Reload(const config::Inject& config) {
  HF_ASSIGN_OR_RETURN(auto policy, Policy::Load(config));
  if (!policy->unfit_cluster().empty())
    base::Log(base::Event::kAllPodsRefused, kPart, "all pods are refused: {}",
              policy->unfit_cluster());
  const base::MutexLock lock(mutex_);
  policy_ = std::move(policy);
  metrics_.configuration_refused.Set(0);
  return {};
}

std::shared_ptr<const Policy> Injector::policy() const {
  const base::MutexLock lock(mutex_);
  return policy_;
}

AdminResponse Injector::Review(const AdminRequest& request) {
  const auto begin = std::chrono::steady_clock::now();
  Answer answer = AnswerReview(*policy(), request.content_type, request.body);
  metrics_.review_seconds.Observe(std::chrono::steady_clock::now() - begin);
  metrics_.reviews.With(OutcomeName(answer.outcome)).Add();
  Log(answer);
  return {.status = answer.status,
          .content_type = std::move(answer.content_type),
          .body = std::move(answer.body)};
}

std::vector<net::AdminRoute> Injector::AdminRoutes() {
  std::vector<net::AdminRoute> routes;
  routes.push_back({HttpMethod::kGet, "/live", "200 while the process runs",
                    [](const AdminRequest&) { return AdminResponse{.body = "ok\n"}; }});
  routes.push_back({HttpMethod::kGet, "/ready", "200 while reviews are to come here",
                    [this](const AdminRequest&) {
                      if (!draining_) return AdminResponse{.body = "ready\n"};
                      return AdminResponse{.status = kUnavailable, .body = "draining\n"};
                    }});
  routes.push_back({HttpMethod::kGet, "/metrics", "metrics in the text format of Prometheus",
                    [this](const AdminRequest&) {
                      return AdminResponse{
                          .content_type = "text/plain; version=0.0.4; charset=utf-8",
                          .body = context_.registry.Expose()};
                    }});
  net::AddLoggingRoutes(&routes);
  return routes;
}

Injector::Stamps Injector::StampsOf(const config::Inject& config) const {
  return {base::StampOf(context_.config_file), base::StampOf(config.sidecar().agent_config_file())};
}

void Injector::LookAtFilesLater() {
  look_ = context_.admin.After(kLookEvery, [this] {
    LookAtFiles();
    LookAtFilesLater();
  });
}

void Injector::LookAtFiles() {
  const base::Result<bool> refreshed = tls_->Refresh();
  if (!refreshed) {
    base::Log(base::Event::kTlsFilesNotTaken, kPart,
              "a changed certificate is not used, the one read before is: {}",
              refreshed.error().message);
  } else if (*refreshed) {
    metrics_.certificate_expiry_timestamp_seconds.Set(tls_->context()->expires_at());
    base::Log(LogLevel::kInfo, kPart, "read a changed certificate");
  }
  const Stamps stamps = StampsOf(policy()->config());
  if (stamps == stamps_) return;
  stamps_ = stamps;
  // The log has the outcome.
  metrics_.configuration_refused.Set(context_.reload() ? 0 : 1);
}

void Injector::Drain() {
  draining_ = true;
  webhook_->LetGo();
  std::promise<void> gone;
  base::Timer farewell;
  context_.webhook.RunAndWait(
      [&] { farewell = context_.webhook.After(kFarewell, [&gone] { gone.set_value(); }); });
  gone.get_future().wait();
  context_.webhook.RunAndWait([&] { farewell.Cancel(); });
  webhook_.reset();
}

std::string Injector::ListenAddress() const { return webhook_->local_address().ToString(); }

std::string Injector::AdminAddress() const {
  return admin_ ? admin_->local_address().ToString() : "";
}

}  // namespace holdfast::inject
