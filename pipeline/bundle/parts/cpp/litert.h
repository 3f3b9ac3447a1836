/* The part of LiteRT's C API that segment.cpp calls, for libLiteRt.so of ai-edge-litert 2.3; declared here, so that no
 * header has to be fetched. Source: google-ai-edge/LiteRT, litert/c/ (Apache License 2.0), whose own headers do as well.
 */
#ifndef SEGQUANT_LITERT_H
#define SEGQUANT_LITERT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef int LiteRtStatus; /* 0: done */
typedef struct LiteRtEnvironmentT *LiteRtEnvironment;
typedef struct LiteRtModelT *LiteRtModel;
typedef struct LiteRtOptionsT *LiteRtOptions;
typedef struct LiteRtCompiledModelT *LiteRtCompiledModel;
typedef struct LiteRtSignatureT *LiteRtSignature;
typedef struct LiteRtTensorT *LiteRtTensor;
typedef struct LiteRtTensorBufferT *LiteRtTensorBuffer;
typedef struct LiteRtTensorBufferRequirementsT *LiteRtTensorBufferRequirements;

enum { kLiteRtHwAcceleratorCpu = 1, kLiteRtHwAcceleratorGpu = 2, kLiteRtHwAcceleratorNpu = 4 };
enum { kLiteRtTensorBufferLockModeRead = 0, kLiteRtTensorBufferLockModeWrite = 1 };

typedef struct {
  int element_type;
  struct {
    unsigned int rank; /* of these bits, 7 are the rank */
    int32_t dimensions[8];
    uint32_t strides[8];
  } layout;
} LiteRtRankedTensorType;

LiteRtStatus LiteRtCreateEnvironment(int num_options, const void *options, LiteRtEnvironment *environment);
LiteRtStatus LiteRtCreateModelFromFile(LiteRtEnvironment environment, const char *filename, LiteRtModel *model);
LiteRtStatus LiteRtCreateOptions(LiteRtOptions *options);
LiteRtStatus LiteRtSetOptionsHardwareAccelerators(LiteRtOptions options, int hardware_accelerators);
LiteRtStatus LiteRtCreateCompiledModel(LiteRtEnvironment environment, LiteRtModel model, LiteRtOptions options,
                                       LiteRtCompiledModel *compiled_model);
LiteRtStatus LiteRtGetModelSignature(LiteRtModel model, size_t index, LiteRtSignature *signature);
LiteRtStatus LiteRtGetSignatureInputTensorByIndex(LiteRtSignature signature, size_t index, LiteRtTensor *tensor);
LiteRtStatus LiteRtGetSignatureOutputTensorByIndex(LiteRtSignature signature, size_t index, LiteRtTensor *tensor);
LiteRtStatus LiteRtGetRankedTensorType(LiteRtTensor tensor, LiteRtRankedTensorType *type);
LiteRtStatus LiteRtGetCompiledModelInputBufferRequirements(LiteRtCompiledModel compiled_model, size_t signature_index,
                                                           size_t input_index, LiteRtTensorBufferRequirements *needs);
LiteRtStatus LiteRtGetCompiledModelOutputBufferRequirements(LiteRtCompiledModel compiled_model, size_t signature_index,
                                                            size_t output_index, LiteRtTensorBufferRequirements *needs);
LiteRtStatus LiteRtCreateManagedTensorBufferFromRequirements(LiteRtEnvironment environment,
                                                             const LiteRtRankedTensorType *type,
                                                             LiteRtTensorBufferRequirements needs,
                                                             LiteRtTensorBuffer *buffer);
LiteRtStatus LiteRtGetTensorBufferSize(LiteRtTensorBuffer buffer, size_t *size);
LiteRtStatus LiteRtLockTensorBuffer(LiteRtTensorBuffer buffer, void **address, int mode);
LiteRtStatus LiteRtUnlockTensorBuffer(LiteRtTensorBuffer buffer);
LiteRtStatus LiteRtRunCompiledModel(LiteRtCompiledModel compiled_model, size_t signature_index, size_t num_inputs,
                                    LiteRtTensorBuffer *inputs, size_t num_outputs, LiteRtTensorBuffer *outputs);
void LiteRtDestroyTensorBuffer(LiteRtTensorBuffer buffer);
void LiteRtDestroyCompiledModel(LiteRtCompiledModel compiled_model);
void LiteRtDestroyOptions(LiteRtOptions options);
void LiteRtDestroyModel(LiteRtModel model);
void LiteRtDestroyEnvironment(LiteRtEnvironment environment);

#ifdef __cplusplus
}
#endif

#endif
