#include "ipsec_mb.h"

#if defined(__x86_64__) && defined(__has_include)
#if __has_include(<intel-ipsec-mb.h>)
#define SLUICE_HAS_IMB
#endif
#endif

#ifdef SLUICE_HAS_IMB

#include <stdlib.h>
#include <string.h>

#include <intel-ipsec-mb.h>

#define TAG_LEN 16

struct sluice_imb_key {
	struct gcm_key_data expanded;
	aes_gcm_enc_dec_t seal, open;
};

struct sluice_imb_key *sluice_imb_key_new(const uint8_t *key, size_t len)
{
	struct sluice_imb_key *made;
	IMB_MGR *mgr;

	if (len != 16 && len != 32)
		return NULL;
	/* The struct's size is a multiple of its alignment, 64. */
	made = aligned_alloc(64, (sizeof(*made) + 63) / 64 * 64);
	if (made == NULL)
		return NULL;
	/* Where the functions for this CPU come from; they need it no more once they are known. */
	mgr = alloc_mb_mgr(0);
	if (mgr == NULL) {
		free(made);
		return NULL;
	}
	init_mb_mgr_auto(mgr, NULL);
	/* None on a CPU that the library has no code for. */
	if (mgr->gcm128_pre == NULL || mgr->gcm256_pre == NULL) {
		free_mb_mgr(mgr);
		free(made);
		return NULL;
	}
	if (len == 16) {
		IMB_AES128_GCM_PRE(mgr, key, &made->expanded);
		made->seal = mgr->gcm128_enc;
		made->open = mgr->gcm128_dec;
	} else {
		IMB_AES256_GCM_PRE(mgr, key, &made->expanded);
		made->seal = mgr->gcm256_enc;
		made->open = mgr->gcm256_dec;
	}
	free_mb_mgr(mgr);
	return made;
}

void sluice_imb_key_free(struct sluice_imb_key *key)
{
	if (key == NULL)
		return;
	explicit_bzero(key, sizeof(*key));
	free(key);
}

void sluice_imb_seal(const struct sluice_imb_key *key, const uint8_t *iv, const uint8_t *aad,
		     size_t aad_len, uint8_t *data, size_t len, uint8_t *tag)
{
	struct gcm_context_data context;

	key->seal(&key->expanded, &context, data, data, len, iv, aad, aad_len, tag, TAG_LEN);
}

void sluice_imb_open(const struct sluice_imb_key *key, const uint8_t *iv, const uint8_t *aad,
		     size_t aad_len, uint8_t *data, size_t len, uint8_t *tag)
{
	struct gcm_context_data context;

	key->open(&key->expanded, &context, data, data, len, iv, aad, aad_len, tag, TAG_LEN);
}

#else

struct sluice_imb_key *sluice_imb_key_new(const uint8_t *key, size_t len)
{
	(void)key, (void)len;
	return NULL;
}

void sluice_imb_key_free(struct sluice_imb_key *key)
{
	(void)key;
}

void sluice_imb_seal(const struct sluice_imb_key *key, const uint8_t *iv, const uint8_t *aad,
		     size_t aad_len, uint8_t *data, size_t len, uint8_t *tag)
{
	(void)key, (void)iv, (void)aad, (void)aad_len, (void)data, (void)len, (void)tag;
}

void sluice_imb_open(const struct sluice_imb_key *key, const uint8_t *iv, const uint8_t *aad,
		     size_t aad_len, uint8_t *data, size_t len, uint8_t *tag)
{
	(void)key, (void)iv, (void)aad, (void)aad_len, (void)data, (void)len, (void)tag;
}

#endif
