// A layer of deck.gl for many small round points. deck.gl's own draws each as a square of two triangles, which takes a machine without a
// graphics processor ten times as long.
import { Layer, project32 } from "@deck.gl/core";
import { Model } from "@luma.gl/engine";

const vs = `#version 300 es
#define SHADER_NAME map-points-vertex
in vec2 places;
in vec4 colors;
out vec4 color;
out float pixels;
void main(void) {
  gl_Position = project_common_position_to_clipspace(vec4(project_position(vec3(places, 0.0)), 1.0));
  pixels = points.size * project.devicePixelRatio;
  gl_PointSize = pixels;
  color = vec4(colors.rgb, colors.a * points.opacity);
}`;

const fs = `#version 300 es
#define SHADER_NAME map-points-fragment
precision highp float;
in vec4 color;
in float pixels;
out vec4 fragment;
void main(void) {
  float inside = (1.0 - length(gl_PointCoord * 2.0 - 1.0)) * pixels * 0.5;
  vec3 paint = mix(color.rgb, points.edge.rgb, points.edge.a * (1.0 - smoothstep(1.2, 2.4, inside)));
  fragment = vec4(paint, color.a * smoothstep(0.0, 1.0, inside + 0.25));
}`;

const block = `layout(std140) uniform pointsUniforms {
  float size;
  float opacity;
  vec4 edge;
} points;`;

const uniforms = { name: "points", vs: block, fs: block, uniformTypes: { size: "f32", opacity: "f32", edge: "vec4<f32>" } };

// *data*: `length`, and as attributes `places` (x and y, uint16 that stand for 0 to 1) and `colors` (uint8 of red, green, blue, alpha).
export class Points extends Layer {
  static layerName = "Points";
  static defaultProps = {
    size: 3,
    strength: 1,
    edge: { type: "array", value: [0, 0, 0, 0] },
    getPlace: { type: "accessor", value: [0, 0] },
    getColor: { type: "accessor", value: [0, 0, 0, 255] },
  };

  getShaders() {
    return super.getShaders({ vs, fs, modules: [project32, uniforms] });
  }

  initializeState() {
    const attributes = this.getAttributeManager();
    attributes.add({
      places: { size: 2, type: "unorm16", accessor: "getPlace" },
      colors: { size: 4, type: "unorm8", accessor: "getColor" },
    });
    const { device } = this.context;
    const bufferLayout = attributes.getBufferLayouts();
    this.setState({ model: new Model(device, { ...this.getShaders(), id: this.props.id, topology: "point-list", bufferLayout }) });
  }

  draw() {
    const { model } = this.state;
    const { data, size, strength, edge } = this.props;
    model.setVertexCount(data.length);
    model.shaderInputs.setProps({ points: { size, opacity: strength, edge } });
    model.draw(this.context.renderPass);
  }
}
