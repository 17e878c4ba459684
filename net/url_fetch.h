// The content of what has an address: of a file, or over http or https, by any method.
//
// Over https the server's certificate and name are checked, and no redirection leads elsewhere than
// to https.
//
// Threads: any; it blocks.
// Limits: Options.bytes_max, and Options.timeout for all of it.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/result.h"

namespace holdfast::net {

struct FetchOptions {
  std::string ca_location = {};  // PEM file with the CAs that are trusted. Empty: the system's.
  base::Duration timeout = std::chrono::seconds(10);
  size_t bytes_max = size_t{1} << 20;
  std::string method = "GET";
  std::string body = {};
  std::vector<std::string> headers = {};  // "NAME: VALUE".
  int redirections_max = 3;
  const std::atomic<bool>* give_up = nullptr;  // Once true, it ends with kClosed within a second.
};

[[nodiscard]] bool IsFileUrl(const std::string& url);
// Whether it is of a kind that can be fetched.
[[nodiscard]] bool IsFetchable(const std::string& url);

// An answer of HTTP that is no success is an error.
base::Result<std::string> FetchUrl(const std::string& url, const FetchOptions& options);

// The answer, whatever its status.
struct Fetched {
  int status;
  std::string body;
};
base::Result<Fetched> AskUrl(const std::string& url, const FetchOptions& options);

}  // namespace holdfast::net
