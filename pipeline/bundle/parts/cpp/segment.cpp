// Segments images with the .tflite file of this folder through LiteRT's C API; C++17, no other library.
//
//   make LITERT=FOLDER            FOLDER holds libLiteRt.so: that of the Python package ai-edge-litert, or your own build
//   ./segment                     the golden check: exit code 0 where it passes
//   ./segment photo.ppm mask.pgm  the mask of a photo, a class id a pixel
//
// Compile without -ffast-math, and with -ffp-contract=off where the processor has fused multiply-adds: else a few
// pixels at the borders of classes differ from the other programs'.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "../mask/segquant_mask.h"
#include "litert.h"
#include "network.h"

namespace {

struct Picture {  // 8 bits a channel, row by row
  int height = 0, width = 0, channels = 0;
  std::vector<uint8_t> pixels;
};

std::string home(const std::string& name) { return std::string(SEGQUANT_HOME) + "/" + name; }

std::vector<uint8_t> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be read");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Picture read_picture(const std::string& path) {  // binary PPM (P6) or PGM (P5)
  const std::vector<uint8_t> data = read_file(path);
  Picture picture;
  int most = 0, used = 0;
  const std::string head(data.begin(), data.begin() + std::min<size_t>(data.size(), 64));
  char kind = 0;
  if (std::sscanf(head.c_str(), "P%c %d %d %d%n", &kind, &picture.width, &picture.height, &most, &used) != 4 ||
      (kind != '6' && kind != '5') || most != 255)
    throw std::runtime_error(path + " is no binary PPM or PGM of 8 bits: convert it, for example with ImageMagick");
  picture.channels = kind == '6' ? 3 : 1;
  const size_t size = size_t(picture.height) * picture.width * picture.channels;
  if (data.size() < used + 1 + size) throw std::runtime_error(path + " is truncated");
  picture.pixels.assign(data.begin() + used + 1, data.begin() + used + 1 + size);
  return picture;
}

// Pillow's bilinear resize along one axis: a triangle as wide as the pixels it covers, weights of 22 bits.
constexpr int kBits = 22, kBandRows = 32;
struct Weights {
  int first;
  std::vector<int> values;
};

std::vector<Weights> weights_of(int from, int to) {
  const double scale = double(from) / to, widened = std::max(scale, 1.0);
  std::vector<Weights> all(to);
  for (int i = 0; i < to; i++) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(0, int(centre - widened + 0.5)), last = std::min(from, int(centre + widened + 0.5));
    std::vector<double> values;
    double sum = 0;
    for (int j = first; j < last; j++) {
      values.push_back(std::max(0.0, 1 - std::fabs((j - centre + 0.5) * (1 / widened))));
      sum += values.back();
    }
    all[i].first = first;
    for (double value : values) all[i].values.push_back(int(0.5 + (sum != 0 ? value / sum : value) * (1 << kBits)));
  }
  return all;
}

uint8_t clipped(int64_t sum) { return uint8_t(std::clamp<int64_t>(sum >> kBits, 0, 255)); }

Picture with_width(const Picture& from, int width) {
  if (from.width == width) return from;
  Picture to{from.height, width, 3, std::vector<uint8_t>(size_t(from.height) * width * 3)};
  const auto weights = weights_of(from.width, width);
  for (int y = 0; y < from.height; y++)
    for (int x = 0; x < width; x++)
      for (int c = 0; c < 3; c++) {
        int64_t sum = 1 << (kBits - 1);
        for (size_t k = 0; k < weights[x].values.size(); k++)
          sum += int64_t(from.pixels[(size_t(y) * from.width + weights[x].first + k) * 3 + c]) * weights[x].values[k];
        to.pixels[(size_t(y) * width + x) * 3 + c] = clipped(sum);
      }
  return to;
}

Picture with_height(const Picture& from, int height) {
  if (from.height == height) return from;
  const size_t line = size_t(from.width) * 3;
  Picture to{height, from.width, 3, std::vector<uint8_t>(height * line)};
  const auto weights = weights_of(from.height, height);
  for (int y = 0; y < height; y++)
    for (size_t i = 0; i < line; i++) {
      int64_t sum = 1 << (kBits - 1);
      for (size_t k = 0; k < weights[y].values.size(); k++)
        sum += int64_t(from.pixels[(weights[y].first + k) * line + i]) * weights[y].values[k];
      to.pixels[y * line + i] = clipped(sum);
    }
  return to;
}

// The values between the passes are rounded, so that their order counts: it is that of Pillow 13.
Picture resized(const Picture& from, int height, int width) {
  const int lower = from.height - height, narrower = from.width - width;
  if (lower > 0 && lower > 2 * narrower) return with_width(with_height(from, height), width);
  return with_height(with_width(from, width), height);
}

// The network's input as bytes: RGB, real = raw / 255, quantized as the input is.
std::vector<uint8_t> to_input(const Picture& picture) {
  const Picture fitted = resized(picture, SEGQUANT_INPUT_HEIGHT, SEGQUANT_INPUT_WIDTH);
  std::vector<uint8_t> bytes(fitted.pixels.size() * SEGQUANT_INPUT_BYTES_A_VALUE);
  for (size_t i = 0; i < fitted.pixels.size(); i++) {
#if SEGQUANT_INPUT_FLOAT
    const float value = float(fitted.pixels[i]) * float(1.0 / 255);
    std::memcpy(&bytes[i * 4], &value, 4);
#else
    bytes[i] = uint8_t(fitted.pixels[i] + SEGQUANT_INPUT_ZERO_POINT);
#endif
  }
  return bytes;
}

void check(LiteRtStatus status, const char* what) {
  if (status) throw std::runtime_error(std::string(what) + " failed with status " + std::to_string(status));
}
#define CALL(function, ...) check(function(__VA_ARGS__), #function)

// One inference. An app keeps all but the bytes from one image to the next.
std::vector<uint8_t> infer(const std::vector<uint8_t>& input) {
  LiteRtEnvironment environment;
  LiteRtModel model;
  LiteRtOptions options;
  LiteRtCompiledModel compiled;
  LiteRtSignature signature;
  LiteRtTensor tensor;
  LiteRtRankedTensorType type{};
  LiteRtTensorBufferRequirements needs;
  LiteRtTensorBuffer buffers[2];
  CALL(LiteRtCreateEnvironment, 0, nullptr, &environment);
  CALL(LiteRtCreateModelFromFile, environment, home(SEGQUANT_FILE).c_str(), &model);
  CALL(LiteRtCreateOptions, &options);
  CALL(LiteRtSetOptionsHardwareAccelerators, options, kLiteRtHwAcceleratorCpu);
  CALL(LiteRtCreateCompiledModel, environment, model, options, &compiled);
  CALL(LiteRtGetModelSignature, model, 0, &signature);
  CALL(LiteRtGetSignatureInputTensorByIndex, signature, 0, &tensor);
  CALL(LiteRtGetRankedTensorType, tensor, &type);
  CALL(LiteRtGetCompiledModelInputBufferRequirements, compiled, 0, 0, &needs);
  CALL(LiteRtCreateManagedTensorBufferFromRequirements, environment, &type, needs, &buffers[0]);
  CALL(LiteRtGetSignatureOutputTensorByIndex, signature, 0, &tensor);
  CALL(LiteRtGetRankedTensorType, tensor, &type);
  CALL(LiteRtGetCompiledModelOutputBufferRequirements, compiled, 0, 0, &needs);
  CALL(LiteRtCreateManagedTensorBufferFromRequirements, environment, &type, needs, &buffers[1]);

  void* at = nullptr;
  size_t size = 0;
  CALL(LiteRtGetTensorBufferSize, buffers[0], &size);
  if (size < input.size()) throw std::runtime_error("the file takes a smaller input than network.h says");
  CALL(LiteRtLockTensorBuffer, buffers[0], &at, kLiteRtTensorBufferLockModeWrite);
  std::memcpy(at, input.data(), input.size());
  CALL(LiteRtUnlockTensorBuffer, buffers[0]);
  CALL(LiteRtRunCompiledModel, compiled, 0, 1, &buffers[0], 1, &buffers[1]);
  std::vector<uint8_t> output(SEGQUANT_OUTPUT_BYTES);
  CALL(LiteRtGetTensorBufferSize, buffers[1], &size);
  if (size < output.size()) throw std::runtime_error("the file gives a smaller output than network.h says");
  CALL(LiteRtLockTensorBuffer, buffers[1], &at, kLiteRtTensorBufferLockModeRead);
  std::memcpy(output.data(), at, output.size());
  CALL(LiteRtUnlockTensorBuffer, buffers[1]);
  for (LiteRtTensorBuffer buffer : buffers) LiteRtDestroyTensorBuffer(buffer);
  LiteRtDestroyCompiledModel(compiled);
  LiteRtDestroyOptions(options);
  LiteRtDestroyModel(model);
  LiteRtDestroyEnvironment(environment);
  return output;
}

// Values between samples in float32, as the other programs compute them: rows first, then columns.
struct Values {
  int height, width, channels;
  std::vector<float> at;
};

struct Place {
  int low, high;
  float share;  // of high
};

std::vector<Place> places(int samples, int pixels, bool half_pixel) {
  std::vector<Place> all(pixels);
  for (int i = 0; i < pixels; i++) {
    int64_t place = int64_t(i) * (pixels > 1 ? samples - 1 : 0), den = std::max(1, pixels - 1);
    if (half_pixel) {
      den = 2 * int64_t(pixels);
      place = std::clamp<int64_t>((2 * int64_t(i) + 1) * samples - pixels, 0, (samples - 1) * den);
    }
    const int low = int(place / den);
    all[i] = {low, std::min(low + 1, samples - 1), float(double(place % den) / double(den))};
  }
  return all;
}

// Rows begin to end of the result.
[[maybe_unused]] Values interpolated(const Values& from, int height, int width, bool half_pixel, int begin, int end) {
  const size_t line = size_t(from.width) * from.channels;
  Values rows{end - begin, from.width, from.channels, std::vector<float>((end - begin) * line)};
  if (from.height == height) {
    std::copy(&from.at[begin * line], &from.at[begin * line] + rows.at.size(), rows.at.begin());
  } else {
    const auto at = places(from.height, height, half_pixel);
    for (int y = begin; y < end; y++)
      for (size_t i = 0; i < line; i++) {
        const float low = from.at[at[y].low * line + i] * (1 - at[y].share);
        const float high = from.at[at[y].high * line + i] * at[y].share;
        rows.at[(y - begin) * line + i] = low + high;
      }
  }
  if (rows.width == width) return rows;
  const auto at = places(rows.width, width, half_pixel);
  Values all{rows.height, width, rows.channels, std::vector<float>(size_t(rows.height) * width * rows.channels)};
  for (int y = 0; y < rows.height; y++)
    for (int x = 0; x < width; x++)
      for (int c = 0; c < rows.channels; c++) {
        const float* from_row = &rows.at[y * line];
        const float low = from_row[at[x].low * rows.channels + c] * (1 - at[x].share);
        const float high = from_row[at[x].high * rows.channels + c] * at[x].share;
        all.at[(size_t(y) * width + x) * rows.channels + c] = low + high;
      }
  return all;
}

struct Step {
  int height, width, resize;
};

// The file's output → a class id a pixel of the image.
std::vector<uint8_t> to_mask(const std::vector<uint8_t>& output, int height, int width) {
  std::vector<Step> steps;
  if (SEGQUANT_OUTPUT_HEIGHT != SEGQUANT_INPUT_HEIGHT || SEGQUANT_OUTPUT_WIDTH != SEGQUANT_INPUT_WIDTH)
    steps.push_back({SEGQUANT_INPUT_HEIGHT, SEGQUANT_INPUT_WIDTH, SEGQUANT_RESIZE});
  steps.push_back({height, width, SEGQUANT_HALF_PIXEL});
  std::vector<uint8_t> mask(size_t(height) * width);
#if SEGQUANT_OUTPUT_MASK
  std::vector<int32_t> classes(output.size() / 4);
  std::memcpy(classes.data(), output.data(), output.size());
  int rows = SEGQUANT_OUTPUT_HEIGHT, columns = SEGQUANT_OUTPUT_WIDTH;
  for (const Step& step : steps) {
    std::vector<uint8_t> next(size_t(step.height) * step.width);
    std::vector<int32_t> scratch(SEGQUANT_MASK_SCRATCH(columns));
    if (segquant_expand(classes.data(), rows, columns, next.data(), step.height, step.width, step.width, step.resize,
                        scratch.data()))
      throw std::runtime_error("segquant_expand refuses the sizes");
    classes.assign(next.begin(), next.end());
    rows = step.height, columns = step.width;
  }
  std::copy(classes.begin(), classes.end(), mask.begin());
#else
#if !SEGQUANT_OUTPUT_FLOAT
  if (steps[0].height == height && steps[0].width == width) {
    std::vector<int32_t> scratch(SEGQUANT_MASK_SCRATCH(SEGQUANT_OUTPUT_WIDTH));
    if (segquant_mask(reinterpret_cast<const int8_t*>(output.data()), SEGQUANT_OUTPUT_HEIGHT, SEGQUANT_OUTPUT_WIDTH,
                      SEGQUANT_CLASSES, SEGQUANT_OUTPUT_WIDTH * SEGQUANT_CLASSES, mask.data(), height, width, width,
                      steps[0].resize, scratch.data()))
      throw std::runtime_error("segquant_mask refuses the sizes");
    return mask;
  }
#endif
  Values values{SEGQUANT_OUTPUT_HEIGHT, SEGQUANT_OUTPUT_WIDTH, SEGQUANT_CLASSES, {}};
#if SEGQUANT_OUTPUT_FLOAT
  values.at.resize(output.size() / 4);
  std::memcpy(values.at.data(), output.data(), output.size());
#else
  for (uint8_t byte : output) values.at.push_back(float(int8_t(byte)));
#endif
  const Step last = steps.back();
  steps.pop_back();
  for (const Step& step : steps)
    values = interpolated(values, step.height, step.width, step.resize == SEGQUANT_HALF_PIXEL, 0, step.height);
  for (int begin = 0; begin < height; begin += kBandRows) {  // the whole would not fit the memory for a large photo
    const int end = std::min(begin + kBandRows, height);
    const Values band = interpolated(values, height, width, last.resize == SEGQUANT_HALF_PIXEL, begin, end);
    for (size_t i = 0; i < size_t(end - begin) * width; i++) {
      const float* first = &band.at[i * SEGQUANT_CLASSES];
      mask[size_t(begin) * width + i] = uint8_t(std::max_element(first, first + SEGQUANT_CLASSES) - first);
    }
  }
#endif
  return mask;
}

bool golden_check() {
  const Picture image = read_picture(home("golden/image.ppm"));
  const std::vector<uint8_t> expected = read_file(home("golden/output.bin"));
  const Picture expected_mask = read_picture(home("golden/mask.pgm"));
  const std::vector<uint8_t> output = infer(to_input(image));
  const std::vector<uint8_t> mask = to_mask(output, image.height, image.width);
  size_t same = 0;
  for (size_t i = 0; i < mask.size() && i < expected_mask.pixels.size(); i++) same += mask[i] == expected_mask.pixels[i];
  const double share = double(same) / double(mask.size());
  bool passed = output.size() == expected.size();
#if SEGQUANT_OUTPUT_FLOAT
  double difference = 0;
  for (size_t i = 0; passed && i + 4 <= output.size(); i += 4) {
    float value, golden;
    std::memcpy(&value, &output[i], 4);
    std::memcpy(&golden, &expected[i], 4);
    difference = std::max(difference, std::fabs(double(value) - golden));
  }
  passed = passed && difference <= SEGQUANT_TOLERANCE && share >= SEGQUANT_LEAST_EQUAL_PIXELS;
  std::printf("golden output: differs by at most %.3g, %.3g is allowed\n", difference, double(SEGQUANT_TOLERANCE));
#else
  size_t equal = 0;
  for (size_t i = 0; i < output.size() && i < expected.size(); i++) equal += output[i] == expected[i];
  passed = passed && equal == output.size() && same == mask.size();
  std::printf("golden output: %zu of %zu bytes are equal\n", equal, output.size());
#endif
  std::printf("golden mask: %.4f %% of the pixels are equal\n%s\n", 100 * share, passed ? "PASSED" : "FAILED");
  return passed;
}

}  // namespace

int main(int count, char** words) {
  try {
    if (count == 1) return golden_check() ? 0 : 1;
    if (count != 3) {
      std::fprintf(stderr, "give nothing, for the golden check, or: segment photo.ppm mask.pgm\n");
      return 2;
    }
    const Picture image = read_picture(words[1]);
    if (image.channels != 3) throw std::runtime_error(std::string(words[1]) + " has no colours: give a PPM (P6)");
    const std::vector<uint8_t> mask = to_mask(infer(to_input(image)), image.height, image.width);
    std::ofstream file(words[2], std::ios::binary);
    file << "P5\n" << image.width << " " << image.height << "\n255\n";
    file.write(reinterpret_cast<const char*>(mask.data()), std::streamsize(mask.size()));
    if (!file) throw std::runtime_error(std::string(words[2]) + " cannot be written");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "segment: %s\n", error.what());
    return 2;
  }
}
