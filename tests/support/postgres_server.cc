#include "tests/support/postgres_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

namespace holdfast::test {
namespace {

using std::chrono::steady_clock;

std::string Binary(const char* name) {
  std::string newest;
  std::error_code none;
  for (const auto& version : std::filesystem::directory_iterator("/usr/lib/postgresql", none)) {
    const std::filesystem::path path = version.path() / "bin" / name;
    if (std::filesystem::exists(path)) newest = std::max(newest, path.string());
  }
  EXPECT_FALSE(newest.empty()) << "is a Debian package postgresql-NN installed?";
  return newest;
}

// Bound to a free port, and nothing more. While it is open nobody else is given that port, and the
// server, which allows for sharing it, too, can listen there, also after it was started again.
int BindFreePort() {
  const int holder = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int shared = 1;
  EXPECT_EQ(setsockopt(holder, SOL_SOCKET, SO_REUSEADDR, &shared, sizeof shared), 0);
  const sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  EXPECT_EQ(bind(holder, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  return holder;
}

int PortOf(int bound) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  EXPECT_EQ(getsockname(bound, reinterpret_cast<sockaddr*>(&address), &size), 0);
  return ntohs(address.sin_port);
}

std::vector<pid_t> ChildrenOf(pid_t parent) {
  std::vector<pid_t> children;
  for (const auto& process : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(process.path() / "stat");
    std::string stat;
    if (!std::getline(file, stat)) continue;
    // `pid (name) state parent`
    const size_t end = stat.rfind(')');
    if (std::atoi(stat.c_str() + end + 4) == parent) children.push_back(std::atoi(stat.c_str()));
  }
  return children;
}

}  // namespace

PostgresServer::PostgresServer(std::vector<std::string> settings)
    : settings_(std::move(settings)), port_holder_(BindFreePort()), port_(PortOf(port_holder_)) {
  directory_ = (std::filesystem::temp_directory_path() / "holdfast-postgres-XXXXXX").string();
  EXPECT_NE(mkdtemp(directory_.data()), nullptr);
  if (geteuid() == 0) {
    const passwd* account = getpwnam("postgres");
    EXPECT_NE(account, nullptr) << "PostgreSQL does not run as root";
    if (account == nullptr) return;
    EXPECT_EQ(chown(directory_.c_str(), account->pw_uid, account->pw_gid), 0);
  }
  const pid_t initdb = Run({Binary("initdb"), "-D", directory_ + "/data", "-U", "postgres", "-A",
                            "trust", "-E", "UTF8", "--locale=C", "--no-sync"});
  int status = -1;
  waitpid(initdb, &status, 0);
  EXPECT_EQ(status, 0) << Log();
  Start();
}

PostgresServer::~PostgresServer() {
  Stop();
  close(port_holder_);
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

pid_t PostgresServer::Run(const std::vector<std::string>& command) const {
  std::vector<char*> arguments;
  for (const std::string& one : command) arguments.push_back(const_cast<char*>(one.c_str()));
  arguments.push_back(nullptr);
  const std::string log = directory_ + "/log";
  const passwd* account = geteuid() == 0 ? getpwnam("postgres") : nullptr;
  const pid_t pid = fork();
  if (pid != 0) return pid;
  if (account != nullptr && (initgroups("postgres", account->pw_gid) != 0 ||
                             setgid(account->pw_gid) != 0 || setuid(account->pw_uid) != 0)) {
    _exit(126);
  }
  // Its way to end at once and take its processes along.
  prctl(PR_SET_PDEATHSIG, SIGQUIT);
  const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  dup2(out, STDOUT_FILENO);
  dup2(out, STDERR_FILENO);
  if (chdir("/") == 0) execv(arguments[0], arguments.data());
  _exit(127);
}

void PostgresServer::Start() {
  std::vector<std::string> command{Binary("postgres"),
                                   "-D",
                                   directory_ + "/data",
                                   "-cport=" + std::to_string(port_),
                                   "-clisten_addresses=127.0.0.1",
                                   "-cunix_socket_directories=" + directory_};
  for (const std::string& setting : settings_) command.push_back("-c" + setting);
  pid_ = Run(command);
  WaitUntilReady();
}

void PostgresServer::WaitUntilReady() const {
  const auto give_up = steady_clock::now() + std::chrono::seconds(60);
  while (PQping(Connection().c_str()) != PQPING_OK) {
    if (steady_clock::now() > give_up) {
      ADD_FAILURE() << "PostgreSQL does not start: " << Log();
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

std::string PostgresServer::Log() const {
  std::ifstream file(directory_ + "/log");
  return {std::istreambuf_iterator<char>(file), {}};
}

void PostgresServer::Stop() {
  if (pid_ <= 0) return;
  kill(pid_, SIGINT);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void PostgresServer::Kill() {
  const std::vector<pid_t> children = ChildrenOf(pid_);
  kill(pid_, SIGKILL);
  for (const pid_t child : children) kill(child, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
  // As long as one is left, no new server may start.
  for (const pid_t child : children) {
    while (kill(child, 0) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

std::string PostgresServer::Connection(const std::string& database, const std::string& user) const {
  return fmt::format("host=127.0.0.1 port={} user={} dbname={}", port_, user, database);
}

}  // namespace holdfast::test
