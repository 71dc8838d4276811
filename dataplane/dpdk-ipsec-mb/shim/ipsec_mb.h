/* AES-GCM by Intel's Multi-Buffer library, called directly: one packet a call.
 *
 * Where the library isn't (another architecture, no header at build time) there is no key.
 * Its Rust declarations are in src/lib.rs, by hand.
 */
#ifndef SLUICE_IPSEC_MB_H
#define SLUICE_IPSEC_MB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An expanded key, and how many bytes are there of it. */
struct sluice_imb_key;
#define SLUICE_IMB_KEY_LEN 1024

/* Whether the functions for this CPU are those for AVX-512 with VAES and VPCLMULQDQ, which are the
 * fastest there are for packets of any length, and have the powers of the hash key, the highest
 * first, in the last 768 bytes of 1008. */
bool sluice_imb_is_wide(void);

/* Expands 16 or 32 bytes; NULL for other lengths, without the library or without memory. */
struct sluice_imb_key *sluice_imb_key_new(const uint8_t *key, size_t len);

/* Wipes and frees a key. */
void sluice_imb_key_free(struct sluice_imb_key *key);

/* Encrypts data in place and writes the 16 bytes of its tag. The iv has 12 bytes; is_256 says
 * that the key was made of 32. */
void sluice_imb_seal(const struct sluice_imb_key *key, bool is_256, const uint8_t *iv,
		     const uint8_t *aad, size_t aad_len, uint8_t *data, size_t len, uint8_t *tag);

/* Decrypts data in place and writes the tag that it should have had. */
void sluice_imb_open(const struct sluice_imb_key *key, bool is_256, const uint8_t *iv,
		     const uint8_t *aad, size_t aad_len, uint8_t *data, size_t len, uint8_t *tag);

#endif
