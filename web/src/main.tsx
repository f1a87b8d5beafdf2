import { render } from "preact";
import { App } from "./app.js";
import { placeOf } from "./place.js";
import "./style.css";

const root = document.getElementById("app");
if (root) render(<App place={placeOf(new URL(location.href))} />, root);
