/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BASE_CLEANUP_H
#define BMI_BASE_CLEANUP_H

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

/* `bmi_auto(bmi_plan) plan = ...;` calls bmi_plan_free(plan) when plan leaves its scope; needs BMI_AUTO(bmi_plan) once. */
#define bmi_auto(name) __attribute__((cleanup(name##_cleanup))) struct name *

#define BMI_AUTO(name)                                     \
	static inline void name##_cleanup(struct name **p) \
	{                                                  \
		name##_free(*p);                           \
	}

/* Hand an automatic pointer over: its value is returned and the variable becomes NULL. */
#define bmi_steal(p)                           \
	__extension__({                        \
		__auto_type bmi_stolen = *(p); \
		*(p) = NULL;                   \
		bmi_stolen;                    \
	})

static inline void bmi_cleanup_mem(void *p)
{
	free(*(void **)p);
}

static inline void bmi_cleanup_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define bmi_auto_mem __attribute__((cleanup(bmi_cleanup_mem))) /* on a pointer from malloc */
#define bmi_auto_fd  __attribute__((cleanup(bmi_cleanup_fd))) int

#define bmi_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define BMI_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
