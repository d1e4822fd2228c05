// Makes one script of src/ and the libraries, and the notice of their licences: node bundle.mjs FOLDER
import { build } from "esbuild";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const folder = process.argv[2];
const { metafile } = await build({
  entryPoints: ["src/main.js"],
  outfile: join(folder, "map.js"),
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  legalComments: "none",
  metafile: true,
  logLevel: "warning",
});

const used = Object.values(metafile.outputs).flatMap(({ inputs }) => Object.entries(inputs));
const packages = used
  .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
  .map(([path]) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1])
  .filter(Boolean);
const notices = [...new Set(packages)].sort().map((path) => {
  const { name, version, license } = JSON.parse(readFileSync(join(path, "package.json"), "utf8"));
  const texts = readdirSync(path).filter((file) => /^(licen[cs]e|notice|copying)/i.test(file));
  return [`${name} ${version} (${license})`, ...texts.map((file) => readFileSync(join(path, file), "utf8").trim())].join("\n\n");
});
const head = "map.js holds code of these packages of npm, under these licences.";
writeFileSync(join(folder, "map.LICENSES.txt"), [head, ...notices, ""].join(`\n\n${"-".repeat(80)}\n\n`));
