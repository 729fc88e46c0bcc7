// Scores one image with an exported model, in C# with the package Microsoft.ML.OnnxRuntime.
//   dotnet run -- line3.onnx image.rgb     the pixels: height x width x 3 bytes, RGB, nothing else
using System;
using System.IO;
using System.Linq;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

static class Program
{
    static int Main(string[] args)
    {
        using (var session = new InferenceSession(args[0]))
        {
            int[] shape = session.InputMetadata["pixels"].Dimensions;
            byte[] bytes = File.ReadAllBytes(args[1]);
            if (bytes.Length != shape[1] * shape[2] * shape[3])
            {
                Console.Error.WriteLine($"The model takes {shape[1]} x {shape[2]} RGB pixels.");
                return 2;
            }
            var pixels = NamedOnnxValue.CreateFromTensor("pixels", new DenseTensor<byte>(bytes, shape));
            string[] outputs = { "score", "p_value", "decision" };
            using (var found = session.Run(new[] { pixels }, outputs))
            {
                double score = found[0].AsEnumerable<double>().First();
                double pValue = found[1].AsEnumerable<double>().First();
                string decision = found[2].AsEnumerable<long>().First() == 1 ? "good" : "anomalous";
                // Invariant: a decimal point, whatever the language of the machine.
                Console.WriteLine(FormattableString.Invariant($"{score:R} {pValue:R} {decision}"));
            }
        }
        return 0;
    }
}
