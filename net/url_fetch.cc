#include "net/url_fetch.h"

#include <curl/curl.h>

#include <array>
#include <chrono>
#include <memory>
#include <string_view>

namespace holdfast::net {
namespace {

using base::Code;

struct Free {
  void operator()(CURL* it) const { curl_easy_cleanup(it); }
  void operator()(curl_slist* it) const { curl_slist_free_all(it); }
};

struct Received {
  std::string text;
  size_t bytes_max;
};

size_t OnBytes(char* bytes, size_t size, size_t count, void* received) {
  auto* const to = static_cast<Received*>(received);
  if (to->text.size() + size * count > to->bytes_max) return 0;
  to->text.append(bytes, size * count);
  return size * count;
}

int OnProgress(void* give_up, curl_off_t /*down_total*/, curl_off_t /*down*/,
               curl_off_t /*up_total*/, curl_off_t /*up*/) {
  const auto* const flag = static_cast<const std::atomic<bool>*>(give_up);
  return flag != nullptr && *flag ? 1 : 0;
}

bool HasScheme(const std::string& url, std::string_view scheme) {
  return url.size() > scheme.size() && url.starts_with(scheme);
}

base::Result<Fetched> Perform(const std::string& url, const FetchOptions& options,
                              bool fail_on_error) {
  static const bool ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  const std::unique_ptr<CURL, Free> curl(ready ? curl_easy_init() : nullptr);
  if (!curl) return base::Unexpected(Code::kIo, "libcurl cannot be used");
  Received received{.text = {}, .bytes_max = options.bytes_max};
  std::array<char, CURL_ERROR_SIZE> error{};
  const auto timeout = std::chrono::duration_cast<std::chrono::milliseconds>(options.timeout);
  CURL* const it = curl.get();
  curl_easy_setopt(it, CURLOPT_URL, url.c_str());
  curl_easy_setopt(it, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(it, CURLOPT_FAILONERROR, fail_on_error ? 1L : 0L);
  curl_easy_setopt(it, CURLOPT_TIMEOUT_MS, static_cast<long>(timeout.count()));
  curl_easy_setopt(it, CURLOPT_PROTOCOLS_STR, "file,http,https");
  curl_easy_setopt(it, CURLOPT_REDIR_PROTOCOLS_STR,
                   HasScheme(url, "https://") ? "https" : "http,https");
  curl_easy_setopt(it, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(it, CURLOPT_MAXREDIRS, static_cast<long>(options.redirections_max));
  if (options.method != "GET") {
    curl_easy_setopt(it, CURLOPT_CUSTOMREQUEST, options.method.c_str());
    curl_easy_setopt(it, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(options.body.size()));
    curl_easy_setopt(it, CURLOPT_POSTFIELDS, options.body.c_str());
  }
  std::unique_ptr<curl_slist, Free> headers;
  for (const std::string& header : options.headers) {
    curl_slist* const longer = curl_slist_append(headers.get(), header.c_str());
    if (longer == nullptr) return base::Unexpected(Code::kIo, "libcurl cannot be used");
    [[maybe_unused]] const auto* const same = headers.release();
    headers.reset(longer);
  }
  curl_easy_setopt(it, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(it, CURLOPT_WRITEFUNCTION, &OnBytes);
  curl_easy_setopt(it, CURLOPT_WRITEDATA, &received);
  curl_easy_setopt(it, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(it, CURLOPT_XFERINFOFUNCTION, &OnProgress);
  curl_easy_setopt(it, CURLOPT_XFERINFODATA,
                   const_cast<std::atomic<bool>*>(options.give_up));  // NOLINT: only read.
  curl_easy_setopt(it, CURLOPT_ERRORBUFFER, error.data());
  if (!options.ca_location.empty())
    curl_easy_setopt(it, CURLOPT_CAINFO, options.ca_location.c_str());
  const CURLcode result = curl_easy_perform(it);
  if (result == CURLE_OK) {
    long status = 0;  // NOLINT(google-runtime-int): what libcurl wants.
    curl_easy_getinfo(it, CURLINFO_RESPONSE_CODE, &status);
    return Fetched{static_cast<int>(status), std::move(received.text)};
  }
  if (result == CURLE_ABORTED_BY_CALLBACK)
    return base::Unexpected(Code::kClosed, "was given up: " + url);
  if (result == CURLE_WRITE_ERROR)
    return base::Unexpected(Code::kInvalid, "more than is taken comes from " + url);
  const std::string_view what = error[0] != '\0' ? error.data() : curl_easy_strerror(result);
  return base::Unexpected(Code::kUnavailable, url + ": " + std::string(what));
}

}  // namespace

bool IsFileUrl(const std::string& url) { return HasScheme(url, "file:///"); }

bool IsFetchable(const std::string& url) {
  return IsFileUrl(url) || HasScheme(url, "http://") || HasScheme(url, "https://");
}

base::Result<std::string> FetchUrl(const std::string& url, const FetchOptions& options) {
  HF_ASSIGN_OR_RETURN(Fetched fetched, Perform(url, options, /*fail_on_error=*/true));
  return std::move(fetched.body);
}

base::Result<Fetched> AskUrl(const std::string& url, const FetchOptions& options) {
  return Perform(url, options, /*fail_on_error=*/false);
}

}  // namespace holdfast::net
