// The content of what has an address: of a file, or over http or https, by GET or POST.
//
// Over https the server's certificate and name are checked, and no redirection leads elsewhere than
// to https.
//
// Threads: any; it blocks.
// Limits: Options.bytes_max, and Options.timeout for all of it.
#pragma once

#include <atomic>
#include <string>

#include "base/executor.h"
#include "base/result.h"

namespace holdfast::net {

struct FetchOptions {
  std::string ca_location = {};  // PEM file with the CAs that are trusted. Empty: the system's.
  base::Duration timeout = std::chrono::seconds(10);
  size_t bytes_max = size_t{1} << 20;
  bool post = false;  // Without a body.
  int redirections_max = 3;
  const std::atomic<bool>* give_up = nullptr;  // Once true, it ends with kClosed within a second.
};

[[nodiscard]] bool IsFileUrl(const std::string& url);
// Whether it is of a kind that can be fetched.
[[nodiscard]] bool IsFetchable(const std::string& url);

base::Result<std::string> FetchUrl(const std::string& url, const FetchOptions& options);

}  // namespace holdfast::net
