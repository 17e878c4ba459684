#include "net/admin_server.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <event2/util.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <climits>
#include <cstring>
#include <optional>
#include <string_view>

#include "base/check.h"
#include "base/event.h"
#include "base/hex.h"
#include "base/log.h"
#include "net/socket.h"

namespace holdfast::net {
namespace {

constexpr ev_ssize_t kHeaderBytesMax = 16384;
constexpr base::Duration kAcceptAgain = std::chrono::milliseconds(100);

constexpr int kBadRequest = 400;
constexpr int kForbidden = 403;
constexpr int kNotFound = 404;
constexpr int kMethodNotAllowed = 405;

std::string_view MethodName(HttpMethod method) {
  return method == HttpMethod::kGet ? "GET" : "POST";
}

std::optional<HttpMethod> MethodOf(evhttp_request* request) {
  switch (evhttp_request_get_command(request)) {
    case EVHTTP_REQ_GET:
    case EVHTTP_REQ_HEAD:  // Without the body, see Respond.
      return HttpMethod::kGet;
    case EVHTTP_REQ_POST:
      return HttpMethod::kPost;
    default:
      return std::nullopt;
  }
}

bool OnLoopback(evhttp_request* request) {
  evhttp_connection* const connection = evhttp_request_get_connection(request);
  char* host = nullptr;
  ev_uint16_t port = 0;
  evhttp_connection_get_peer(connection, &host, &port);
  if (host == nullptr) return false;
  const auto peer = SocketAddress::FromIp(host, port);
  if (!peer || !peer->IsLoopback()) return false;
  sockaddr_in6 own{};
  socklen_t size = sizeof(own);
  auto* const address = reinterpret_cast<sockaddr*>(&own);
  const int fd = bufferevent_getfd(evhttp_connection_get_bufferevent(connection));
  return getsockname(fd, address, &size) == 0 && SocketAddress(address, size).IsLoopback();
}

// As forms send it (URL Standard, application/x-www-form-urlencoded): what libevent has for this
// ends a text at its first zero byte. None: a % without two hexadecimal digits behind it.
std::optional<std::string> DecodeQueryText(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i] == '+' ? ' ' : text[i];
      continue;
    }
    const auto byte = base::FromHex(text.substr(i + 1, 2));
    if (!byte || byte->size() != 1) return std::nullopt;
    decoded += *byte;
    i += 2;
  }
  return decoded;
}

std::optional<std::map<std::string, std::string>> ParseQuery(std::string_view text) {
  std::map<std::string, std::string> query;
  while (!text.empty()) {
    const std::string_view pair = text.substr(0, text.find('&'));
    text.remove_prefix(std::min(pair.size() + 1, text.size()));
    if (pair.empty()) continue;
    const size_t equals = std::min(pair.find('='), pair.size());
    auto name = DecodeQueryText(pair.substr(0, equals));
    auto value = DecodeQueryText(pair.substr(std::min(equals + 1, pair.size())));
    if (!name || !value) return std::nullopt;
    query[*std::move(name)] = *std::move(value);
  }
  return query;
}

std::string ReadBody(evhttp_request* request) {
  evbuffer* const input = evhttp_request_get_input_buffer(request);
  std::string body(evbuffer_get_length(input), '\0');
  evbuffer_copyout(input, body.data(), body.size());
  return body;
}

std::string Header(evhttp_request* request, const char* name) {
  const char* const value = evhttp_find_header(evhttp_request_get_input_headers(request), name);
  return value == nullptr ? "" : value;
}

// Whether a browser sends it for a page that came from elsewhere (RFC 6454, Fetch Metadata).
bool OfAnotherSite(evhttp_request* request, std::string_view scheme) {
  const std::string site = Header(request, "Sec-Fetch-Site");
  if (!site.empty() && site != "none" && site != "same-origin") return true;
  const std::string origin = Header(request, "Origin");
  return !origin.empty() && origin != std::string(scheme) + "://" + Header(request, "Host");
}

std::string ThisHostsName() {
  std::array<char, HOST_NAME_MAX + 1> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

bool SameName(const std::string& a, const std::string& b) {
  return !a.empty() && evutil_ascii_strcasecmp(a.c_str(), b.c_str()) == 0;
}

void Respond(evhttp_request* request, const AdminResponse& response) {
  evkeyvalq* const headers = evhttp_request_get_output_headers(request);
  evhttp_add_header(headers, "Content-Type", response.content_type.c_str());
  evhttp_add_header(headers, "Cache-Control", "no-store");
  evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
  for (const auto& [name, value] : response.headers)
    evhttp_add_header(headers, name.c_str(), value.c_str());
  evbuffer* const body = evbuffer_new();
  HF_CHECK(body != nullptr);
  if (evhttp_request_get_command(request) == EVHTTP_REQ_HEAD) {
    evhttp_add_header(headers, "Content-Length", std::to_string(response.body.size()).c_str());
  } else {
    evbuffer_add(body, response.body.data(), response.body.size());
  }
  evhttp_send_reply(request, response.status, nullptr, body);
  evbuffer_free(body);
}

}  // namespace

class AdminServer::Core {
 public:
  Core(EventLoop& loop, Socket listener, Options options, std::vector<AdminRoute> routes)
      : loop_(loop),
        listener_(std::move(listener)),
        address_(listener_.LocalAddress()),
        options_(std::move(options)),
        routes_(std::move(routes)) {
    routes_.push_back({HttpMethod::kGet, "/help", "this list",
                       [this](const AdminRequest&) { return AdminResponse{.body = Help()}; }});
  }

  void Start() {
    http_ = evhttp_new(loop_.base());
    HF_CHECK(http_ != nullptr);
    evhttp_set_max_headers_size(http_, kHeaderBytesMax);
    evhttp_set_max_body_size(http_, static_cast<ev_ssize_t>(options_.body_bytes_max));
    evhttp_set_timeout(http_, static_cast<int>(options_.idle_timeout.count()));
    evhttp_set_bevcb(http_, &Core::OnAccept, this);
    // All of them come here, so that a wrong method gets an answer that helps.
    evhttp_set_allowed_methods(http_, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST |
                                          EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE | EVHTTP_REQ_PATCH |
                                          EVHTTP_REQ_OPTIONS);
    evhttp_set_gencb(http_, &Core::OnRequest, this);
    // Accepted sockets inherit it. An answer is written in pieces, of which the second would wait
    // for the peer to acknowledge the first: 40 ms.
    const int yes = 1;
    setsockopt(listener_.fd(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    evhttp_bound_socket* const bound = evhttp_accept_socket_with_handle(http_, listener_.fd());
    HF_CHECK(bound != nullptr);
    OfLoop()[http_] = this;
    evconnlistener_set_error_cb(evhttp_bound_socket_get_listener(bound), &Core::OnAcceptError);
    // It closes the descriptor now.
    [[maybe_unused]] const int given_away = listener_.Release();
  }

  void Close() {
    self_.reset();
    NoteAccepted();
    accept_again_.Cancel();
    OfLoop().erase(http_);
    if (http_ != nullptr) evhttp_free(std::exchange(http_, nullptr));
    waiting_.clear();
    listener_.Close();
  }

  void LetGo() { let_go_ = true; }

  [[nodiscard]] EventLoop& loop() { return loop_; }
  [[nodiscard]] const SocketAddress& address() const { return address_; }

 private:
  static bufferevent* OnAccept(event_base* base, void* core) noexcept {
    auto* self = static_cast<Core*>(core);
    self->loop_.BeginTurn();
    self->NoteAccepted();
    if (self->connections_.size() >= self->options_.connections_max) self->CloseLongestIdle();
    self->accepted_ = self->MakeStream(base);
    bufferevent_incref(self->accepted_);
    self->loop_.AtTurnEnd([weak = std::weak_ptr<Core*>(self->self_)] {
      if (const auto alive = weak.lock(); alive) (*alive)->NoteAccepted();
    });
    return self->accepted_;
  }

  // libevent tells of an error by its server alone.
  static std::map<evhttp*, Core*>& OfLoop() {
    thread_local std::map<evhttp*, Core*> cores;
    return cores;
  }
  // Such as no descriptors. The listener stays readable, and would be asked again at once.
  static void OnAcceptError(evconnlistener* listener, void* http) noexcept {
    const int error = EVUTIL_SOCKET_ERROR();
    Core* const self = OfLoop().at(static_cast<evhttp*>(http));
    self->loop_.BeginTurn();
    base::Log(base::Event::kAcceptFailed, {"net", self->address_.ToString()}, "cannot accept: {}",
              std::strerror(error));
    evconnlistener_disable(listener);
    self->accept_again_ =
        self->loop_.After(kAcceptAgain, [listener] { evconnlistener_enable(listener); });
  }

  [[nodiscard]] bufferevent* MakeStream(event_base* base) const {
    if (!options_.tls) {
      bufferevent* const plain = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
      HF_CHECK(plain != nullptr);
      return plain;
    }
    const auto context = options_.tls->context();
    ssl_st* const ssl = SSL_new(context->get());  // It keeps the context.
    HF_CHECK(ssl != nullptr);
    // libevent asks only the kernel whether there is more to read.
    SSL_set_read_ahead(ssl, 0);
    bufferevent* const stream = bufferevent_openssl_socket_new(
        base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
    HF_CHECK(stream != nullptr);
    bufferevent_openssl_set_allow_dirty_shutdown(stream, 1);
    return stream;
  }

  // libevent shows a connection when it has asked something. One that does not is known by its
  // stream, whose callbacks have it as their argument, until it is closed.
  void NoteAccepted() {
    bufferevent* const stream = std::exchange(accepted_, nullptr);
    if (stream == nullptr) return;
    void* argument = nullptr;
    bufferevent_getcb(stream, nullptr, nullptr, nullptr, &argument);
    if (auto* const connection = static_cast<evhttp_connection*>(argument); connection != nullptr) {
      evhttp_connection_set_closecb(connection, &Core::OnClosed, this);
      connections_.push_back(connection);
    }
    bufferevent_decref(stream);
  }

  void CloseLongestIdle() {
    const auto idle = std::ranges::find_if(connections_, [this](evhttp_connection* connection) {
      return std::ranges::none_of(waiting_, [connection](const auto& waiting) {
        return evhttp_request_get_connection(waiting.second) == connection;
      });
    });
    evhttp_connection* const closed = idle == connections_.end() ? connections_.front() : *idle;
    char* host = nullptr;
    ev_uint16_t port = 0;
    evhttp_connection_get_peer(closed, &host, &port);
    base::Log(base::Event::kConnectionsTooMany, {"net", host == nullptr ? "" : host},
              "closed the connection to {} that asked nothing for longest: {} are open, which is "
              "the limit",
              address_.ToString(), options_.connections_max);
    evhttp_connection_free(closed);
  }

  static void OnRequest(evhttp_request* request, void* core) noexcept {
    auto* self = static_cast<Core*>(core);
    self->loop_.BeginTurn();
    self->NoteAccepted();
    const auto asks = std::ranges::find(self->connections_, evhttp_request_get_connection(request));
    if (asks != self->connections_.end()) std::rotate(asks, asks + 1, self->connections_.end());
    if (self->let_go_) {
      evhttp_add_header(evhttp_request_get_output_headers(request), "Connection", "close");
    }
    if (const std::optional<AdminResponse> now = self->Handle(request)) Respond(request, *now);
  }

  static void OnClosed(evhttp_connection* connection, void* core) noexcept {
    auto* self = static_cast<Core*>(core);
    std::erase(self->connections_, connection);
    std::erase_if(self->waiting_, [connection](const auto& waiting) {
      return evhttp_request_get_connection(waiting.second) == connection;
    });
  }

  // A page whose own name was made to lead here would be of the same site.
  [[nodiscard]] bool IsCalled(const std::string& authority) const {
    const auto with_port = HostPort::Parse(authority);
    const auto parsed = with_port ? with_port : HostPort::Parse(authority + ":0");
    if (!parsed) return authority.empty();  // As HTTP/1.0 has it, and no browser.
    return SocketAddress::FromIp(parsed->host, 0) || SameName(parsed->host, "localhost") ||
           SameName(parsed->host, options_.listen.host) || SameName(parsed->host, ThisHostsName());
  }

  // None: later.
  std::optional<AdminResponse> Handle(evhttp_request* request) {
    const evhttp_uri* const uri = evhttp_request_get_evhttp_uri(request);
    const char* const path = uri == nullptr ? nullptr : evhttp_uri_get_path(uri);
    const std::string_view wanted = path == nullptr ? "" : path;
    const std::optional<HttpMethod> method = MethodOf(request);
    // What is shown to other hosts is shown by any name: names of this one may lead to loopback.
    const bool for_names_here = address_.IsLoopback() || method != HttpMethod::kGet;
    if (!options_.tls && for_names_here && OnLoopback(request) &&
        !IsCalled(Header(request, "Host"))) {
      return AdminResponse{.status = kForbidden,
                           .body = "On this host, use localhost or an address in figures.\n"};
    }
    std::string allowed;
    for (const AdminRoute& route : routes_) {
      if (route.path != wanted) continue;
      if (route.method == method) return Call(route, request, uri);
      allowed += (allowed.empty() ? "" : ", ") + std::string(MethodName(route.method));
    }
    if (allowed.empty()) {
      return AdminResponse{.status = kNotFound, .body = "There is nothing here. Try:\n\n" + Help()};
    }
    evhttp_add_header(evhttp_request_get_output_headers(request), "Allow", allowed.c_str());
    return AdminResponse{.status = kMethodNotAllowed,
                         .body = "Use " + allowed + " for this path.\n"};
  }

  std::optional<AdminResponse> Call(const AdminRoute& route, evhttp_request* request,
                                    const evhttp_uri* uri) {
    if (route.method == HttpMethod::kPost && !route.for_everybody && !OnLoopback(request)) {
      return AdminResponse{.status = kForbidden,
                           .body = "POST is for this host's loopback address only.\n"};
    }
    if (route.method == HttpMethod::kPost && !route.for_everybody &&
        OfAnotherSite(request, options_.tls ? "https" : "http")) {
      return AdminResponse{.status = kForbidden, .body = "POST is not for pages of other sites.\n"};
    }
    const char* const query = evhttp_uri_get_query(uri);
    auto parameters = ParseQuery(query == nullptr ? "" : query);
    if (!parameters) {
      return AdminResponse{
          .status = kBadRequest,
          .body = "After each % of the query two hexadecimal digits are expected.\n"};
    }
    const AdminRequest asked{.method = route.method,
                             .path = route.path,
                             .query = *std::move(parameters),
                             .body = ReadBody(request),
                             .content_type = Header(request, "Content-Type")};
    if (!route.deferred) return route.handler(asked);
    const uint64_t id = ++last_id_;
    waiting_[id] = request;
    route.deferred(asked,
                   [&loop = loop_, self = std::weak_ptr<Core*>(self_), id](AdminResponse response) {
                     loop.Post([self, id, response = std::move(response)] {
                       if (const auto alive = self.lock(); alive) (*alive)->Finish(id, response);
                     });
                   });
    return std::nullopt;
  }

  void Finish(uint64_t id, const AdminResponse& response) {
    const auto waiting = waiting_.find(id);
    if (waiting == waiting_.end()) return;
    evhttp_request* const request = waiting->second;
    waiting_.erase(waiting);
    Respond(request, response);
  }

  [[nodiscard]] std::string Help() const {
    size_t width = 0;
    for (const AdminRoute& route : routes_) width = std::max(width, route.path.size());
    std::string text;
    for (const AdminRoute& route : routes_) {
      std::string line(MethodName(route.method));
      line.resize(5, ' ');
      line += route.path;
      line.resize(5 + width + 2, ' ');
      text += line + route.help + "\n";
    }
    return text;
  }

  EventLoop& loop_;
  Socket listener_;
  const SocketAddress address_;
  const Options options_;
  std::vector<AdminRoute> routes_;
  evhttp* http_ = nullptr;
  std::atomic<bool> let_go_{false};
  base::Timer accept_again_;
  bufferevent* accepted_ = nullptr;              // Of the newest, until it is in connections_.
  std::vector<evhttp_connection*> connections_;  // Who asked longest ago stands first.
  std::map<uint64_t, evhttp_request*> waiting_;  // For what was deferred.
  uint64_t last_id_ = 0;
  std::shared_ptr<Core*> self_ = std::make_shared<Core*>(this);
};

base::Result<std::unique_ptr<AdminServer>> AdminServer::Listen(EventLoop& loop, Options options,
                                                               std::vector<AdminRoute> routes) {
  HF_ASSIGN_OR_RETURN(Socket listener, Socket::Listen(options.listen, {}));
  auto core =
      std::make_unique<Core>(loop, std::move(listener), std::move(options), std::move(routes));
  loop.RunAndWait([&core] { core->Start(); });
  return std::unique_ptr<AdminServer>(new AdminServer(std::move(core)));
}

AdminServer::AdminServer(std::unique_ptr<Core> core) : core_(std::move(core)) {}

AdminServer::~AdminServer() {
  core_->loop().RunAndWait([this] { core_->Close(); });
}

void AdminServer::LetGo() { core_->LetGo(); }

const SocketAddress& AdminServer::local_address() const { return core_->address(); }

}  // namespace holdfast::net
