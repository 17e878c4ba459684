// A client in TLS 1.3 over a blocking socket, without any of the code under test, that can put
// records of its own making between those of OpenSSL.
//
//   TlsPeer peer(server->local_address(), ca_file);
//   peer.Send(Framed("hello"));          // Leaves with Flush, in one segment with what follows.
//   peer.SendRecord(TlsPeer::kHandshake, "\x18");
//   peer.Flush();
#pragma once

#include <gtest/gtest.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/ssl.h>

#include <string>
#include <string_view>

#include "base/endian.h"
#include "tests/net/loopback.h"

namespace holdfast::net {

class TlsPeer {
 public:
  static constexpr char kHandshake = 22;

  TlsPeer(TestPeer peer, const std::string& ca_file)
      : peer_(std::move(peer)), context_(SSL_CTX_new(TLS_client_method())) {
    SSL_CTX_set_min_proto_version(context_, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(context_, "TLS_AES_128_GCM_SHA256");
    SSL_CTX_load_verify_locations(context_, ca_file.c_str(), nullptr);
    SSL_CTX_set_keylog_callback(context_, &TlsPeer::KeepSecret);
    ssl_ = SSL_new(context_);
    SSL_set_app_data(ssl_, this);
    SSL_set_fd(ssl_, peer_.fd());
    EXPECT_EQ(SSL_connect(ssl_), 1);
    // What is sent from here on is put together first.
    out_ = BIO_new(BIO_s_mem());
    SSL_set0_wbio(ssl_, out_);
  }
  ~TlsPeer() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }
  TlsPeer(const TlsPeer&) = delete;
  TlsPeer& operator=(const TlsPeer&) = delete;

  void Send(std::string_view bytes) {
    EXPECT_EQ(SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size())),
              static_cast<int>(bytes.size()));
    ++records_;
  }
  // OpenSSL does not know of it and can send no more afterwards.
  void SendRecord(char type, std::string_view content) {
    const std::string inner = std::string(content) + type;
    std::string record("\x17\x03\x03\0\0", 5);
    base::StoreBig(record.data() + 3, static_cast<uint16_t>(inner.size() + kTagBytes));
    std::string nonce = Expand("iv", 12);
    for (size_t i = 0; i < 8; ++i)
      nonce[11 - i] = static_cast<char>(nonce[11 - i] ^ static_cast<char>(records_ >> (8 * i)));
    ++records_;
    Seal(nonce, inner, record);
    BIO_write(out_, record.data(), static_cast<int>(record.size()));
  }
  // Has the other side take new keys, and answer with new ones of its own.
  void UpdateKeys() { EXPECT_EQ(SSL_key_update(ssl_, SSL_KEY_UPDATE_REQUESTED), 1); }
  void SendEnd() { EXPECT_EQ(SSL_shutdown(ssl_), 0); }
  void Flush() {
    char* data = nullptr;
    const long size = BIO_get_mem_data(out_, &data);
    peer_.Write({data, static_cast<size_t>(size)});
    BIO_reset(out_);
  }

  std::string ReadFrame() {
    std::string header(4, '\0');
    if (!Read(header)) return "<end>";
    std::string body(static_cast<size_t>(base::LoadBig<int32_t>(header.data())), '\0');
    return Read(body) ? body : "<end>";
  }
  // In the clear.
  void Skip(size_t bytes) { EXPECT_EQ(peer_.Read(bytes).size(), bytes); }
  // True if the other side's close_notify is what comes next.
  bool AtEnd() {
    char byte;
    return SSL_read(ssl_, &byte, 1) <= 0 && SSL_get_shutdown(ssl_) & SSL_RECEIVED_SHUTDOWN;
  }

 private:
  static constexpr size_t kTagBytes = 16;

  static void KeepSecret(const SSL* ssl, const char* line) {
    constexpr std::string_view kWanted = "CLIENT_TRAFFIC_SECRET_0 ";
    const std::string_view text(line);
    if (!text.starts_with(kWanted)) return;
    const std::string_view hex = text.substr(text.rfind(' ') + 1);
    std::string& secret = static_cast<TlsPeer*>(SSL_get_app_data(ssl))->secret_;
    for (size_t i = 0; i + 1 < hex.size(); i += 2)
      secret += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  }
  // HKDF-Expand-Label of RFC 8446, 7.1.
  std::string Expand(std::string label, size_t bytes) {
    std::string digest = "SHA256";
    std::string prefix = "tls13 ";
    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest.data(), 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, secret_.data(), secret_.size()),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, prefix.data(), prefix.size()),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, label.data(), label.size()),
        OSSL_PARAM_construct_end()};
    EVP_KDF* const kdf = EVP_KDF_fetch(nullptr, "TLS13-KDF", nullptr);
    EVP_KDF_CTX* const state = EVP_KDF_CTX_new(kdf);
    std::string key(bytes, '\0');
    EXPECT_EQ(EVP_KDF_derive(state, reinterpret_cast<unsigned char*>(key.data()), bytes, params),
              1);
    EVP_KDF_CTX_free(state);
    EVP_KDF_free(kdf);
    return key;
  }
  // Behind the record's header, which is protected too.
  void Seal(const std::string& nonce, const std::string& inner, std::string& record) {
    const auto bytes = [](const std::string& text) {
      return reinterpret_cast<const unsigned char*>(text.data());
    };
    const std::string key = Expand("key", 16);
    const size_t header = record.size();
    record.resize(header + inner.size() + kTagBytes);
    auto* const out = reinterpret_cast<unsigned char*>(record.data());
    int size = 0;
    EVP_CIPHER_CTX* const cipher = EVP_CIPHER_CTX_new();
    EXPECT_EQ(EVP_EncryptInit_ex(cipher, EVP_aes_128_gcm(), nullptr, bytes(key), bytes(nonce)), 1);
    EVP_EncryptUpdate(cipher, nullptr, &size, out, static_cast<int>(header));
    EVP_EncryptUpdate(cipher, out + header, &size, bytes(inner), static_cast<int>(inner.size()));
    EVP_EncryptFinal_ex(cipher, out + header + inner.size(), &size);
    EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, kTagBytes, out + header + inner.size());
    EVP_CIPHER_CTX_free(cipher);
  }
  bool Read(std::string& into) {
    size_t filled = 0;
    while (filled < into.size()) {
      const int got = SSL_read(ssl_, into.data() + filled, static_cast<int>(into.size() - filled));
      if (got <= 0) return false;
      filled += static_cast<size_t>(got);
    }
    return true;
  }

  TestPeer peer_;
  SSL_CTX* const context_;
  SSL* ssl_ = nullptr;
  BIO* out_ = nullptr;
  std::string secret_;    // Of what this side sends.
  uint64_t records_ = 0;  // Sent under it.
};

}  // namespace holdfast::net
