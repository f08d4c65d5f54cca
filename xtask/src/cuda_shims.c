// Loads the libraries of CUDA on the first call of one of their functions, so that a program that
// is linked with this starts on machines without them. `cuda_shims.rs` writes the rest:
// `rbee_cuda_functions`, `rbee_cuda_slots` and the functions themselves.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define HIDDEN __attribute__((visibility("hidden")))

// What a function returns whose library is missing: the error of that library which is the nearest.
static int no_device(void) { return 100; }          // CUDA_ERROR_NO_DEVICE
static int rtc_internal_error(void) { return 11; }  // NVRTC_ERROR_INTERNAL_ERROR
static int rand_not_initialized(void) { return 203; } // CURAND_STATUS_INITIALIZATION_FAILED
static int blas_not_initialized(void) { return 1; } // CUBLAS_STATUS_NOT_INITIALIZED

struct library {
    const char *file;
    int (*missing)(void);
    void *handle;
    int tried;
};

// In the order of `LIBRARIES` in `cuda_shims.rs`.
static struct library libraries[] = {
    {"libcuda.so.1", no_device, NULL, 0},
    {"libnvrtc.so.13", rtc_internal_error, NULL, 0},
    {"libcurand.so.10", rand_not_initialized, NULL, 0},
    {"libcublas.so.13", blas_not_initialized, NULL, 0},
    {"libcublasLt.so.13", blas_not_initialized, NULL, 0},
};

// Where installers put them. The first is the loader's own search.
static const char *const folders[] = {
    "", "/usr/local/cuda/lib64/", "/usr/local/cuda-13/lib64/", "/opt/cuda/lib64/",
    "/usr/lib/x86_64-linux-gnu/", NULL,
};

struct function {
    int library;
    const char *name;
};

extern HIDDEN const struct function rbee_cuda_functions[];
extern HIDDEN void *rbee_cuda_slots[];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *open_in(const char *folder, const char *separator, const char *file) {
    char path[4096];
    int length = snprintf(path, sizeof path, "%s%s%s", folder, separator, file);
    if (length < 0 || (size_t)length >= sizeof path) return NULL;
    // Libraries of CUDA depend on each other: cuBLAS on cuBLASLt.
    return dlopen(path, RTLD_LAZY | RTLD_GLOBAL);
}

static void open_library(struct library *library) {
    library->tried = 1;
    const char *chosen = getenv("RBEE_CUDA_LIB_DIR");
    if (chosen && *chosen) library->handle = open_in(chosen, "/", library->file);
    for (int i = 0; folders[i] && !library->handle; i++)
        library->handle = open_in(folders[i], "", library->file);
}

// The address of a function, which its slot holds from now on.
HIDDEN void *rbee_cuda_resolve(unsigned long index) {
    const struct function *function = &rbee_cuda_functions[index];
    struct library *library = &libraries[function->library];
    pthread_mutex_lock(&lock);
    if (!library->tried) open_library(library);
    pthread_mutex_unlock(&lock);
    void *found = library->handle ? dlsym(library->handle, function->name) : NULL;
    if (!found) found = (void *)library->missing;
    __atomic_store_n(&rbee_cuda_slots[index], found, __ATOMIC_RELEASE);
    return found;
}
