/* In place of three vendors' SDKs: libraries that LiteRT's plugins load and call, and which do nothing. The plugins
   still say which ops they would hand on. Declarations need no headers: arguments that nobody reads are not named. */
#include <stdint.h>
#include <unistd.h>

#define NOTHING(name) \
    int name(void) { return 0; }

/* MediaTek: version 0.0.0 has no say of its own about single ops. */
int Neuron_getVersion(uint8_t* version) {
    version[0] = version[1] = version[2] = 0;
    return 0;
}
NOTHING(NeuronCompilation_create)
NOTHING(NeuronCompilation_createWithOptions)
NOTHING(NeuronCompilation_finish)
NOTHING(NeuronCompilation_free)
NOTHING(NeuronCompilation_getInputPaddedDimensions)
NOTHING(NeuronCompilation_getInputPaddedSize)
NOTHING(NeuronCompilation_getOutputPaddedDimensions)
NOTHING(NeuronCompilation_getOutputPaddedSize)
NOTHING(NeuronCompilation_getCompiledNetworkSize)
NOTHING(NeuronCompilation_getSupportedOperations)
NOTHING(NeuronCompilation_setL1MemorySizeKb)
NOTHING(NeuronCompilation_setOptimizationHint)
NOTHING(NeuronCompilation_setOptimizationString)
NOTHING(NeuronCompilation_setPreference)
NOTHING(NeuronCompilation_setPriority)
NOTHING(NeuronCompilation_storeCompiledNetwork)
NOTHING(NeuronExecution_compute)
NOTHING(NeuronExecution_create)
NOTHING(NeuronExecution_free)
NOTHING(NeuronExecution_setBoostHint)
NOTHING(NeuronExecution_setConfig)
NOTHING(NeuronExecution_setInputFromMemory)
NOTHING(NeuronExecution_setOutputFromMemory)
NOTHING(NeuronMemory_createFromAHardwareBuffer)
NOTHING(NeuronMemory_createFromFd)
NOTHING(NeuronMemory_free)
NOTHING(NeuronModel_addOperand)
NOTHING(NeuronModel_addOperation)
NOTHING(NeuronModel_create)
NOTHING(NeuronModel_finish)
NOTHING(NeuronModel_free)
NOTHING(NeuronModel_getExtensionOperandType)
NOTHING(NeuronModel_getExtensionOperationType)
NOTHING(NeuronModel_identifyInputsAndOutputs)
NOTHING(NeuronModel_relaxComputationFloat32toFloat16)
NOTHING(NeuronModel_restoreFromCompiledNetwork)
NOTHING(NeuronModel_setName)
NOTHING(NeuronModel_setOperandPerChannelQuantParams)
NOTHING(NeuronModel_setOperandSymmPerChannelQuantParams)
NOTHING(NeuronModel_setOperandValue)
NOTHING(Neuron_getL1MemorySizeKb)

/* Google Tensor */
NOTHING(GoogleTensorCompileFlatbuffer)
NOTHING(GoogleTensorCompilerFreeCompiledCode)
NOTHING(GoogleTensorCompilerFreeErrorMessage)
NOTHING(GoogleTensorFreeUnsupportedOps)
NOTHING(GoogleTensorGetUnsupportedOps)

/* Samsung: the graph is built op by op before its compiler is asked for. */
static int graph;
static uint32_t made;
static uint8_t bytes[64];
void* create_graph(void) { return &graph; }
int define_tensor(void* handle, uint32_t* id) { return *id = made++, 0; }
int define_op_node(void* handle, uint32_t* id) { return *id = made++, 0; }
int serialize(void* handle, uint8_t** data, uint64_t* size) { return *data = bytes, *size = sizeof bytes, 0; }
void* graphgen_create(void) { return write(1, "the graph was built\n", 20), (void*)0; }
NOTHING(add_op_parameter)
NOTHING(finish_build_graph)
NOTHING(graphgen_generate)
NOTHING(graphgen_initialize_context)
NOTHING(graphgen_release)
NOTHING(graphgen_release_buffer)
NOTHING(release_graph)
NOTHING(set_data_for_constant_tensor)
NOTHING(set_graph_input_tensors)
NOTHING(set_graph_output_tensors)
NOTHING(set_quantize_param_for_tensor)
/* What Samsung's plugin of ai-edge-litert 2.3.0 lacks, so that it cannot be loaded, SDK or not. */
void* _ZN11flatbuffers13ClassicLocale9instance_E;
