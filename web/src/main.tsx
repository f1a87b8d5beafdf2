import { render } from "preact";
import { App } from "./app.js";
import { placeOf } from "./place.js";
import "./style/base.css";
import "./style/lobby.css";
import "./style/room.css";
import "./style/panels.css";
// Last, as it overrules.
import "./style/narrow.css";

const root = document.getElementById("app");
if (root) render(<App place={placeOf(new URL(location.href))} />, root);
