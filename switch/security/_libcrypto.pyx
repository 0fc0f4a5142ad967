# cython: language_level=3, boundscheck=False, wraparound=False
"""Block ciphers on the system's libcrypto with key schedules made once: the engine of the hot path.

Built only where OpenSSL's headers are; ``engine.Portable`` gives the same results without it. The low-level DES calls
are deprecated but there in OpenSSL 3, and cost a fifth of what its EVP layer does per block.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memset

from switch.errors import SecurityError
from switch.limits import FRAME_SIZE_MAX
from switch.security.engine import Family, check_size


cdef extern from *:
    """
    #define OPENSSL_SUPPRESS_DEPRECATED
    #include <string.h>
    #include <openssl/crypto.h>
    #include <openssl/des.h>
    #include <openssl/evp.h>

    typedef struct { DES_key_schedule left, right; int is_double; } gs_des;

    static void gs_des_key(gs_des *des, const unsigned char *key, int size)
    {
        DES_set_key_unchecked((const_DES_cblock *)key, &des->left);
        des->is_double = size == 16;
        if (des->is_double)
            DES_set_key_unchecked((const_DES_cblock *)(key + 8), &des->right);
    }

    static void gs_des_block(gs_des *des, const unsigned char *in, unsigned char *out, int encrypt)
    {
        if (des->is_double)
            DES_ecb3_encrypt((const_DES_cblock *)in, (DES_cblock *)out, &des->left, &des->right, &des->left, encrypt);
        else
            DES_ecb_encrypt((const_DES_cblock *)in, (DES_cblock *)out, &des->left, encrypt);
    }

    static EVP_CIPHER_CTX *gs_sm4(const unsigned char *key, int encrypt)
    {
        EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
        if (context == NULL)
            return NULL;
        if (EVP_CipherInit_ex(context, EVP_sm4_ecb(), NULL, key, NULL, encrypt) != 1 ||
            EVP_CIPHER_CTX_set_padding(context, 0) != 1) {
            EVP_CIPHER_CTX_free(context);
            return NULL;
        }
        return context;
    }
    """
    ctypedef struct EVP_CIPHER_CTX:
        pass
    ctypedef struct gs_des:
        pass
    void gs_des_key(gs_des *des, const uint8_t *key, int size)
    void gs_des_block(gs_des *des, const uint8_t *data, uint8_t *out, int encrypt)
    EVP_CIPHER_CTX *gs_sm4(const uint8_t *key, int encrypt)
    int EVP_CipherUpdate(EVP_CIPHER_CTX *context, uint8_t *out, int *out_size, const uint8_t *data, int size)
    void EVP_CIPHER_CTX_free(EVP_CIPHER_CTX *context)
    void OPENSSL_cleanse(void *memory, size_t size)
    const char *OpenSSL_version(int kind)


cdef const uint8_t *HEX = b"0123456789ABCDEF"

VERSION = OpenSSL_version(0).decode()


cdef class Libcrypto:
    """``engine.Engine`` for one key of 8 or 16 bytes (DES), or 16 (SM4). Other families are the portable engine's."""

    cdef gs_des des
    cdef EVP_CIPHER_CTX *sm4_encrypt
    cdef EVP_CIPHER_CTX *sm4_decrypt
    cdef readonly int block_size

    def __cinit__(self, family, bytes key not None):
        cdef const uint8_t *bytes_of_key = <const uint8_t *>PyBytes_AS_STRING(key)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(key)
        cdef bint sm4 = family is Family.SM4
        assert size == 16 or (size == 8 and not sm4)
        assert sm4 or family is Family.DES
        self.block_size = 16 if sm4 else 8
        if sm4:
            self.sm4_encrypt = gs_sm4(bytes_of_key, 1)
            self.sm4_decrypt = gs_sm4(bytes_of_key, 0)
            if self.sm4_encrypt == NULL or self.sm4_decrypt == NULL:
                raise SecurityError("unavailable", "this libcrypto has no SM4")
        else:
            gs_des_key(&self.des, bytes_of_key, <int>size)

    def __dealloc__(self):
        OPENSSL_cleanse(&self.des, sizeof(self.des))
        if self.sm4_encrypt != NULL:
            EVP_CIPHER_CTX_free(self.sm4_encrypt)
        if self.sm4_decrypt != NULL:
            EVP_CIPHER_CTX_free(self.sm4_decrypt)

    cdef int block(self, const uint8_t *data, uint8_t *out, bint encrypt) except -1:
        cdef int written = 0
        if self.sm4_encrypt == NULL:
            gs_des_block(&self.des, data, out, encrypt)
        elif EVP_CipherUpdate(self.sm4_encrypt if encrypt else self.sm4_decrypt, out, &written, data, 16) != 1:
            raise SecurityError("unavailable", "libcrypto refuses an SM4 block")
        return 0

    cdef bytes blocks(self, bytes data, bint encrypt):
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef const uint8_t *read = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef bytes result = PyBytes_FromStringAndSize(NULL, size)
        cdef uint8_t *written = <uint8_t *>PyBytes_AS_STRING(result)
        cdef Py_ssize_t at
        assert size % self.block_size == 0
        for at in range(0, size, self.block_size):
            self.block(read + at, written + at, encrypt)
        return result

    def encrypt(self, bytes data not None):
        return self.blocks(data, True)

    def decrypt(self, bytes data not None):
        return self.blocks(data, False)

    def cbc_mac(self, bytes data not None):
        cdef uint8_t chain[16]
        cdef const uint8_t *read = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), at
        cdef int each
        assert size % self.block_size == 0
        memset(chain, 0, 16)
        for at in range(0, size, self.block_size):
            for each in range(self.block_size):
                chain[each] ^= read[at + each]
            self.block(chain, chain, True)
        return PyBytes_FromStringAndSize(<char *>chain, self.block_size)

    cdef int fold(self, bytes data, uint8_t *out) except -1:
        """XOR of all blocks, the last one filled with zeros."""
        cdef const uint8_t *read = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), at
        cdef Py_ssize_t in_words = size & ~<Py_ssize_t>7
        cdef uint64_t words[2]
        cdef uint64_t word
        if not 0 < size <= FRAME_SIZE_MAX:
            check_size(size)
        words[0] = words[1] = 0
        for at in range(0, in_words, 8):
            memcpy(&word, read + at, 8)
            words[(at >> 3) & (self.block_size >> 4)] ^= word  # a block is one word, or two
        memcpy(out, words, 16)
        for at in range(in_words, size):
            out[at & (self.block_size - 1)] ^= read[at]
        return 0

    def fold_mac(self, bytes data not None):
        cdef uint8_t folded[16]
        cdef uint8_t text[32]
        cdef int each
        self.fold(data, folded)
        for each in range(self.block_size):
            text[2 * each] = HEX[folded[each] >> 4]
            text[2 * each + 1] = HEX[folded[each] & 15]
        self.block(text, folded, True)
        for each in range(self.block_size):
            folded[each] ^= text[self.block_size + each]
        self.block(folded, folded, True)
        return PyBytes_FromStringAndSize(<char *>folded, self.block_size)

    def xor_mac(self, bytes data not None):
        cdef uint8_t folded[16]
        self.fold(data, folded)
        self.block(folded, folded, True)
        return PyBytes_FromStringAndSize(<char *>folded, self.block_size)
