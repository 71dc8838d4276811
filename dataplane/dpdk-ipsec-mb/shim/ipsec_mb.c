#include "ipsec_mb.h"

/* build.rs says so where it links the library. */
#ifdef SLUICE_HAS_IMB

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <intel-ipsec-mb.h>

#define TAG_LEN 16

struct sluice_imb_key {
	struct gcm_key_data expanded;
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct sluice_imb_key) >= SLUICE_IMB_KEY_LEN, "less than is asked for");

/* The functions for this CPU: the library chooses them once, before there is a key. Not beside
 * the keys: with many of them that would be one more cache line of each. */
static struct {
	aes_gcm_pre_t pre_128, pre_256;
	aes_gcm_enc_dec_t seal_128, seal_256, open_128, open_256;
	bool is_wide;
} chosen;

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void)
{
	const uint64_t wide = IMB_FEATURE_AVX512_SKX | IMB_FEATURE_VAES | IMB_FEATURE_VPCLMULQDQ;
	IMB_MGR *mgr = alloc_mb_mgr(0);

	if (mgr == NULL)
		return;
	init_mb_mgr_auto(mgr, NULL);
	/* None on a CPU that the library has no code for. */
	chosen.pre_128 = mgr->gcm128_pre;
	chosen.pre_256 = mgr->gcm256_pre;
	chosen.seal_128 = mgr->gcm128_enc;
	chosen.seal_256 = mgr->gcm256_enc;
	chosen.open_128 = mgr->gcm128_dec;
	chosen.open_256 = mgr->gcm256_dec;
	chosen.is_wide = mgr->used_arch == IMB_ARCH_AVX512 && (mgr->features & wide) == wide;
	free_mb_mgr(mgr);
}

bool sluice_imb_is_wide(void)
{
	return pthread_once(&once, choose) == 0 && chosen.is_wide;
}

struct sluice_imb_key *sluice_imb_key_new(const uint8_t *key, size_t len)
{
	struct sluice_imb_key *made;

	if (len != 16 && len != 32)
		return NULL;
	if (pthread_once(&once, choose) != 0)
		return NULL;
	if (chosen.pre_128 == NULL || chosen.pre_256 == NULL)
		return NULL;
	made = aligned_alloc(64, sizeof(*made));
	if (made == NULL)
		return NULL;
	if (len == 16)
		chosen.pre_128(key, &made->expanded);
	else
		chosen.pre_256(key, &made->expanded);
	return made;
}

void sluice_imb_key_free(struct sluice_imb_key *key)
{
	if (key == NULL)
		return;
	explicit_bzero(key, sizeof(*key));
	free(key);
}

typedef long long word __attribute__((vector_size(16)));

/* A context as what the CPU stores at once. */
union context {
	struct gcm_context_data data;
	word words[(sizeof(struct gcm_context_data) + sizeof(word) - 1) / sizeof(word)];
};

/* The context ends with a block of the key stream: not to be left on the stack. As
 * explicit_bzero, which is a call for a few stores; and memset of a length like this one is an
 * instruction here that takes as long as a block of the cipher. */
static inline void wipe(union context *context)
{
	size_t at;

	for (at = 0; at < sizeof(context->words) / sizeof(word); at++)
		context->words[at] = (word){ 0, 0 };
	__asm__ volatile("" : : "r"(context) : "memory");
}

void sluice_imb_seal(const struct sluice_imb_key *key, bool is_256, const uint8_t *iv,
		     const uint8_t *aad, size_t aad_len, uint8_t *data, size_t len, uint8_t *tag)
{
	union context context;
	const aes_gcm_enc_dec_t seal = is_256 ? chosen.seal_256 : chosen.seal_128;

	seal(&key->expanded, &context.data, data, data, len, iv, aad, aad_len, tag, TAG_LEN);
	wipe(&context);
}

void sluice_imb_open(const struct sluice_imb_key *key, bool is_256, const uint8_t *iv,
		     const uint8_t *aad, size_t aad_len, uint8_t *data, size_t len, uint8_t *tag)
{
	union context context;
	const aes_gcm_enc_dec_t open = is_256 ? chosen.open_256 : chosen.open_128;

	open(&key->expanded, &context.data, data, data, len, iv, aad, aad_len, tag, TAG_LEN);
	wipe(&context);
}

#else

bool sluice_imb_is_wide(void)
{
	return false;
}

struct sluice_imb_key *sluice_imb_key_new(const uint8_t *key, size_t len)
{
	(void)key, (void)len;
	return NULL;
}

void sluice_imb_key_free(struct sluice_imb_key *key)
{
	(void)key;
}

void sluice_imb_seal(const struct sluice_imb_key *key, bool is_256, const uint8_t *iv,
		     const uint8_t *aad, size_t aad_len, uint8_t *data, size_t len, uint8_t *tag)
{
	(void)key, (void)is_256, (void)iv, (void)aad, (void)aad_len, (void)data, (void)len, (void)tag;
}

void sluice_imb_open(const struct sluice_imb_key *key, bool is_256, const uint8_t *iv,
		     const uint8_t *aad, size_t aad_len, uint8_t *data, size_t len, uint8_t *tag)
{
	(void)key, (void)is_256, (void)iv, (void)aad, (void)aad_len, (void)data, (void)len, (void)tag;
}

#endif
