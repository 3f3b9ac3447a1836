/* A delegate for LiteRT that stands in for libedgetpu: of the ops called edgetpu-custom-op it makes a ReLU of 8 bits
 * about zero. It says what options it was given. -DNO_DEVICE: it finds no device; -DNEWER: the file is too new for it.
 *
 * The layouts are those of tflite/core/c/common.h, of some the beginning; the two functions are
 * those of tflite/delegates/external/external_delegate_interface.h. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct array { int size, data[]; };
struct tensor {
  int type;
  int8_t *data;
  struct array *dims;
  float scale;
  int32_t zero_point;
  int allocation;
  size_t bytes;
  void *file, *name, *delegate;
  int handle;
  char stale, variable;
  struct { int type; void *values; } quantization;
  void *sparsity, *signature;
};
struct node { struct array *inputs, *outputs; };
struct context;
struct delegate {
  void *data;
  int (*prepare)(struct context *, struct delegate *);
  void *from_buffer, *to_buffer, *free_buffer;
  int64_t flags;
  void *builder;
};
struct registration {
  void *init, *release;
  int (*prepare)(struct context *, struct node *), (*invoke)(struct context *, struct node *);
  void *profiling;
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *more[8];
};
struct context {
  size_t tensors_size;
  int (*plan)(struct context *, struct array **);
  struct tensor *tensors;
  void *implementation, *resize;
  void (*report)(struct context *, const char *, ...);
  void *add;
  int (*node)(struct context *, int, struct node **, struct registration **);
  int (*replace)(struct context *, struct registration, const struct array *, struct delegate *);
};

static int kernel_prepare(struct context *context, struct node *node) {
  (void)node;
#ifdef NEWER
  context->report(context, "Failed to prepare for TPU. Failed precondition: Package requires runtime version (14), which"
                           " is newer than this runtime version (13).");
  return 1;
#endif
  (void)context;
  return 0;
}

static int kernel_invoke(struct context *context, struct node *node) {
  struct tensor *in = &context->tensors[node->inputs->data[0]];
  struct tensor *out = &context->tensors[node->outputs->data[0]];
  for (size_t i = 0; i < out->bytes; i++) out->data[i] = in->data[i] > 0 ? in->data[i] : 0;
  return 0;
}

static int prepare(struct context *context, struct delegate *delegate) {
  struct array *plan, *mine;
  struct registration kernel = {0}, *op;
  struct node *node;
  context->plan(context, &plan);
  mine = calloc(1 + plan->size, sizeof(int));
  for (int i = 0; i < plan->size; i++) {
    context->node(context, plan->data[i], &node, &op);
    if (op->custom_name && !strcmp(op->custom_name, "edgetpu-custom-op")) mine->data[mine->size++] = plan->data[i];
  }
  fprintf(stderr, "takes %d of %d ops\n", mine->size, plan->size);
  kernel.prepare = kernel_prepare;
  kernel.invoke = kernel_invoke;
  kernel.custom_name = "EdgeTpuDelegateForCustomOp";
  kernel.version = 1;
  return context->replace(context, kernel, mine, delegate);
}

struct delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  struct delegate *made = calloc(1, sizeof *made);
  for (size_t i = 0; i < count; i++) fprintf(stderr, "option %s=%s\n", keys[i], values[i]);
  (void)report;
#ifdef NO_DEVICE
  return NULL;
#endif
  made->prepare = prepare;
  made->flags = 1; /* else the ops are prepared before they are taken */
  return made;
}

void tflite_plugin_destroy_delegate(struct delegate *made) { free(made); }
