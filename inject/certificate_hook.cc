#include "inject/certificate_hook.h"

#include <fmt/format.h>

#include <array>
#include <ctime>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "base/base64.h"
#include "inject/json_access.h"
#include "inject/webhook_certificate.h"

namespace holdfast::inject {
namespace {

using base::Code;
using nlohmann::json;

constexpr int kOk = 200;
constexpr int kCreated = 201;
constexpr int kNotFound = 404;
constexpr int kConflict = 409;
constexpr int kUnprocessable = 422;  // A test of a JSON Patch has failed, too.
constexpr int kAttempts = 10;
constexpr const char* kType = "kubernetes.io/tls";

std::string DayOf(int64_t seconds) {
  const std::time_t time = seconds;
  std::tm parts{};
  gmtime_r(&time, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%F %R UTC", &parts);
  return text.data();
}

// A Secret as it was read, or one to be made.
class Secret {
 public:
  static base::Result<std::optional<Secret>> Read(const ApiServer& api, const SecretName& name) {
    HF_ASSIGN_OR_RETURN(auto answer, api.Get(PathOf(name) + "/" + name.name));
    if (answer.status == kNotFound) return std::nullopt;
    if (answer.status != kOk) return base::Unexpected(Refusal("read " + Shown(name), answer));
    if (TextOf(answer.body, "type") != kType) {
      return base::Unexpected(
          Code::kInvalid, fmt::format("{} is of type {}, and must be {}: it is another's; delete "
                                      "it, or give another name",
                                      Shown(name), TextOf(answer.body, "type"), kType));
    }
    return Secret(name, std::move(answer.body));
  }
  static Secret New(const SecretName& name) {
    return {name,
            {{"apiVersion", "v1"},
             {"kind", "Secret"},
             {"type", kType},
             {"metadata",
              {{"name", name.name},
               {"namespace", name.name_space},
               {"labels",
                {{"app.kubernetes.io/name", "holdfast"},
                 {"app.kubernetes.io/component", "injector"}}}}}}};
  }

  [[nodiscard]] std::string Get(std::string_view key) const {
    const json* const data = Find(object_, "data");
    if (data == nullptr) return {};
    return base::FromBase64(TextOf(*data, key)).value_or("");
  }
  void Set(const char* key, const std::string& value) {
    object_["data"][key] = base::ToBase64(value);
  }
  void Remove(const char* key) { object_["data"].erase(key); }

  // Whether nobody has changed it since; then it is written.
  base::Result<bool> Write(const ApiServer& api) const {
    const bool exists = Find(object_, {"metadata", "resourceVersion"}) != nullptr;
    HF_ASSIGN_OR_RETURN(const auto answer, exists
                                               ? api.Put(PathOf(name_) + "/" + name_.name, object_)
                                               : api.Post(PathOf(name_), object_));
    if (answer.status == kOk || answer.status == kCreated) return true;
    if (answer.status == kConflict) return false;
    return base::Unexpected(Refusal((exists ? "update " : "create ") + Shown(name_), answer));
  }

  static std::string Shown(const SecretName& name) {
    return fmt::format("Secret {}/{}", name.name_space, name.name);
  }

 private:
  Secret(SecretName name, json object) : name_(std::move(name)), object_(std::move(object)) {}
  static std::string PathOf(const SecretName& name) {
    return fmt::format("/api/v1/namespaces/{}/secrets", name.name_space);
  }

  SecretName name_;
  json object_;
};

base::Error Contended(const std::string& what) {
  return {Code::kUnavailable, what + " was changed by others each time; try again"};
}

WebhookCertificate InUse(const Secret& secret) {
  return {.ca = secret.Get("ca.crt"),
          .certificate = secret.Get("tls.crt"),
          .key = secret.Get("tls.key")};
}

WebhookCertificate Next(const Secret& secret) {
  return {.ca = secret.Get("ca.crt"),
          .certificate = secret.Get("next.crt"),
          .key = secret.Get("next.key")};
}

// The new state of the Secret in words; none: it can stay as it is.
base::Result<std::optional<std::string>> Renew(Secret* secret, const CertificateWish& wish,
                                               int64_t now) {
  const int64_t needed_until = now + wish.renew_before_seconds;
  const WebhookCertificate in_use = InUse(*secret);
  const auto good = CheckCertificate(in_use, wish.names, needed_until);
  if (good || CheckCertificate(Next(*secret), wish.names, needed_until)) return std::nullopt;
  HF_ASSIGN_OR_RETURN(const WebhookCertificate made,
                      MakeCertificate(wish.names, now, wish.valid_seconds));
  secret->Set("ca.crt", JoinCas(made.ca, in_use.ca, now));
  const std::string until = DayOf(EndOf(made.certificate));
  if (CheckCertificate(in_use, wish.names, now)) {
    secret->Set("next.crt", made.certificate);
    secret->Set("next.key", made.key);
    return fmt::format("has a certificate until {} for `install` to put in place of that until {}",
                       until, DayOf(EndOf(in_use.certificate)));
  }
  secret->Set("tls.crt", made.certificate);
  secret->Set("tls.key", made.key);
  secret->Remove("next.crt");
  secret->Remove("next.key");
  const std::string why =
      in_use.certificate.empty() ? "" : " (of the one before: " + good.error().message + ")";
  return fmt::format("has a new certificate until {}{}", until, why);
}

// Whether `ca` is what each webhook has now; false: others were quicker.
base::Result<bool> SetCaBundles(const ApiServer& api, const std::string& name,
                                const std::string& ca, std::string* done) {
  const std::string path =
      "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/" + name;
  const std::string shown = "MutatingWebhookConfiguration " + name;
  HF_ASSIGN_OR_RETURN(const auto read, api.Get(path));
  if (read.status != kOk) return base::Unexpected(Refusal("read " + shown, read));
  const std::string bundle = base::ToBase64(ca);
  json operations = json::array();
  const json* const version = Find(read.body, {"metadata", "resourceVersion"});
  if (version != nullptr) {
    operations.push_back(
        {{"op", "test"}, {"path", "/metadata/resourceVersion"}, {"value", *version}});
  }
  const size_t unchanged = operations.size();
  const json& webhooks = ListOf(read.body, "webhooks");
  for (size_t i = 0; i < webhooks.size(); ++i) {
    const json* const client = Find(webhooks[i], "clientConfig");
    if (client != nullptr && TextOf(*client, "caBundle") == bundle) continue;
    operations.push_back({{"op", "add"},
                          {"path", fmt::format("/webhooks/{}/clientConfig/caBundle", i)},
                          {"value", bundle}});
  }
  if (operations.size() == unchanged) {
    *done = shown + " has the CA already";
    return true;
  }
  HF_ASSIGN_OR_RETURN(const auto patched, api.Patch(path, operations));
  if (patched.status == kConflict || patched.status == kUnprocessable) {
    *done = Refusal("patch " + shown, patched).message;
    return false;
  }
  if (patched.status != kOk) return base::Unexpected(Refusal("patch " + shown, patched));
  *done = fmt::format("{} has the CA in {} webhooks", shown, operations.size() - unchanged);
  return true;
}

}  // namespace

base::Result<std::string> CreateCertificate(const ApiServer& api, const SecretName& name,
                                            const CertificateWish& wish, int64_t now) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    HF_ASSIGN_OR_RETURN(auto found, Secret::Read(api, name));
    Secret secret = found ? *std::move(found) : Secret::New(name);
    HF_ASSIGN_OR_RETURN(const auto renewed, Renew(&secret, wish, now));
    if (!renewed) {
      return fmt::format("{} is left alone: its certificate holds until {}", Secret::Shown(name),
                         DayOf(EndOf(secret.Get("tls.crt"))));
    }
    HF_ASSIGN_OR_RETURN(const bool written, secret.Write(api));
    if (written) return Secret::Shown(name) + " " + *renewed;
  }
  return base::Unexpected(Contended(Secret::Shown(name)));
}

base::Result<std::string> InstallCertificate(const ApiServer& api, const SecretName& name,
                                             const std::string& webhook_configuration) {
  std::string done;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    HF_ASSIGN_OR_RETURN(auto secret, Secret::Read(api, name));
    if (!secret || secret->Get("ca.crt").empty()) {
      return base::Unexpected(
          Code::kNotFound, Secret::Shown(name) + (secret ? " has no ca.crt" : " does not exist") +
                               ": `holdfast inject certificates create` makes it");
    }
    HF_ASSIGN_OR_RETURN(const bool trusted,
                        SetCaBundles(api, webhook_configuration, secret->Get("ca.crt"), &done));
    if (!trusted) continue;
    const WebhookCertificate next = Next(*secret);
    if (next.certificate.empty()) return done;
    secret->Set("tls.crt", next.certificate);
    secret->Set("tls.key", next.key);
    secret->Remove("next.crt");
    secret->Remove("next.key");
    HF_ASSIGN_OR_RETURN(const bool written, secret->Write(api));
    if (written) {
      return fmt::format("{}; {} has its next certificate in use, until {}", done,
                         Secret::Shown(name), DayOf(EndOf(next.certificate)));
    }
  }
  return base::Unexpected(Contended(done));
}

}  // namespace holdfast::inject
