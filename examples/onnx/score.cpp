// Scores one image with an exported model, in C++ with ONNX Runtime alone.
//   g++ -std=c++17 score.cpp -I<onnxruntime>/include -L<onnxruntime>/lib -lonnxruntime -o score
//   ./score line3.onnx image.rgb      the pixels: height x width x 3 bytes, RGB, nothing else
#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>
#include <vector>

int main(int, char** argv) {
  Ort::Env env;
  Ort::SessionOptions options;
  Ort::Session session(env, argv[1], options);
  auto shape = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();
  std::ifstream file(argv[2], std::ios::binary);
  std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
  if (static_cast<int64_t>(bytes.size()) != shape[1] * shape[2] * shape[3]) {
    std::cerr << "The model takes " << shape[1] << " x " << shape[2] << " RGB pixels.\n";
    return 2;
  }
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  auto pixels = Ort::Value::CreateTensor<uint8_t>(
      memory, reinterpret_cast<uint8_t*>(bytes.data()), bytes.size(), shape.data(), shape.size());
  const char* inputs[] = {"pixels"};
  const char* outputs[] = {"score", "p_value", "decision"};
  auto found = session.Run(Ort::RunOptions{nullptr}, inputs, &pixels, 1, outputs, 3);
  std::cout.precision(17);
  std::cout << *found[0].GetTensorData<double>() << " " << *found[1].GetTensorData<double>() << " "
            << (*found[2].GetTensorData<int64_t>() == 1 ? "good" : "anomalous") << "\n";
}
