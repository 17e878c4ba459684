// The API server of a cluster, as a pod with a ServiceAccount asks it.
//
// Threads: any; it blocks. Limits: answers of 8 MiB, within 30 s.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/result.h"

namespace holdfast::inject {

class ApiServer {
 public:
  struct Options {
    std::string server = {};  // "https://HOST:PORT". Empty: that of the pod's environment.
    std::string token_file = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    std::string ca_file = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
  };
  static base::Result<ApiServer> Of(Options options);

  struct Answer {
    int status;
    nlohmann::json body;
  };
  // `body` of any status. An error: there was no answer.
  base::Result<Answer> Get(const std::string& path) const { return Ask("GET", path, {}, ""); }
  base::Result<Answer> Post(const std::string& path, const nlohmann::json& body) const {
    return Ask("POST", path, body, "application/json");
  }
  base::Result<Answer> Put(const std::string& path, const nlohmann::json& body) const {
    return Ask("PUT", path, body, "application/json");
  }
  // JSON Patch, RFC 6902.
  base::Result<Answer> Patch(const std::string& path, const nlohmann::json& operations) const {
    return Ask("PATCH", path, operations, "application/json-patch+json");
  }

 private:
  explicit ApiServer(Options options) : options_(std::move(options)) {}
  base::Result<Answer> Ask(const std::string& method, const std::string& path,
                           const nlohmann::json& body, const std::string& type) const;

  Options options_;
};

// What the API server says of a request that it did not do: "cannot WHAT: MESSAGE".
base::Error Refusal(const std::string& what, const ApiServer::Answer& answer);

}  // namespace holdfast::inject
