# Every outside library, found once. All are Debian 12 packages; docs/dependencies.md says why each is here.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenSSL 3 REQUIRED)
find_package(CURL 7.88 REQUIRED)
find_package(ZLIB REQUIRED)
find_package(Protobuf 3.21 REQUIRED)
find_package(spdlog 1.10 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
find_package(tl-expected 1.0 REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(yaml-cpp 0.7 REQUIRED)
find_package(prometheus-cpp REQUIRED)  # Its package names no version; Debian has 1.0.1.
find_package(Snappy REQUIRED)

pkg_check_modules(libevent REQUIRED IMPORTED_TARGET libevent_core>=2.1 libevent_extra>=2.1
  libevent_openssl>=2.1 libevent_pthreads>=2.1)
pkg_check_modules(lmdb REQUIRED IMPORTED_TARGET lmdb>=0.9.24)
# The binary has the static LMDB, and no second one: no further shared object to install, and tests can put
# themselves between it and the kernel (-Wl,--wrap).
find_library(LMDB_STATIC NAMES liblmdb.a REQUIRED)
pkg_check_modules(zstd REQUIRED IMPORTED_TARGET libzstd>=1.5)
pkg_check_modules(rdkafka REQUIRED IMPORTED_TARGET rdkafka++>=2.0 rdkafka>=2.0)
pkg_check_modules(lz4 REQUIRED IMPORTED_TARGET liblz4>=1.9)
pkg_check_modules(sqlite3 REQUIRED IMPORTED_TARGET sqlite3>=3.40)
pkg_check_modules(libpq REQUIRED IMPORTED_TARGET libpq>=15)
pkg_check_modules(re2 REQUIRED IMPORTED_TARGET re2)  # Its file names no version.
